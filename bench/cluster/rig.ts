// What the parts of the bench on the cluster share: a server of their own, the fleet on it, and what the server counts.

import { setTimeout as sleep } from "node:timers/promises";
import { type RedisServer, startRedis } from "../../test/redis/server.js";
import type { Bench } from "../measure.js";
import type { Setup } from "./senders.js";
import type { Pump, Pumped } from "./worker.js";
import { clock, Fleet } from "./worker.js";

let prefixes = 0;

/** What a sender is made with, beside what a part says: a name space that nobody has used. */
export function setupOn(
  server: RedisServer,
  bench: Bench,
  setup: Pick<Setup, "stream" | "caps"> & Partial<Setup>,
): Setup {
  return {
    kind: "outbound-limiter",
    redis: server.url,
    library: bench.url,
    prefix: `bench-${prefixes++}`,
    ...setup,
  };
}

/** A server, and processes on it, for as long as the work takes. */
export async function withFleet<T>(count: number, work: (server: RedisServer, fleet: Fleet) => Promise<T>): Promise<T> {
  const server = await startRedis();
  const fleet = new Fleet(count);
  try {
    return await work(server, fleet);
  } finally {
    await fleet[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  }
}

/** Calls of scripts, and of `ZREM`; counted by the server since it started. */
interface Calls {
  readonly scripts: number;
  readonly zrems: number;
}

async function callsOf(server: RedisServer): Promise<Calls> {
  const calls = new Map<string, number>();
  for (const [, name, count] of String(await server.command("INFO", "commandstats")).matchAll(
    /cmdstat_(\S+?):calls=(\d+)/g,
  ))
    calls.set(String(name), Number(count));
  const sum = (...names: readonly string[]): number => names.reduce((all, name) => all + (calls.get(name) ?? 0), 0);
  // A semaphore of redis-semaphore gives its slot back without a script; its MultiSemaphore has this in one.
  return { scripts: sum("evalsha", "eval"), zrems: sum("zrem") };
}

/** What the server was called for from one time on the shared clock to another. */
export async function callsBetween(server: RedisServer, from: number, until: number): Promise<Calls> {
  await sleep(from - clock());
  const before = await callsOf(server);
  await sleep(until - clock());
  const after = await callsOf(server);
  return { scripts: after.scripts - before.scripts, zrems: after.zrems - before.zrems };
}

/** How the fleet is kept busy: after a while to get going, for so long, in milliseconds. */
export interface Load extends Omit<Pump, "from" | "until"> {
  readonly goingAfter: number;
  readonly measured: number;
}

export interface Run extends Calls {
  /** One a process. */
  readonly pumped: readonly Pumped[];
  readonly pairs: number;
}

/** All processes under load, and what the server is called for meanwhile. */
export async function loaded(server: RedisServer, fleet: Fleet, load: Load): Promise<Run> {
  const { goingAfter, measured, ...order } = load;
  const from = clock() + goingAfter;
  const until = from + measured;
  const [pumped, calls] = await Promise.all([
    fleet.tell("pump", { ...order, from, until }),
    callsBetween(server, from, until),
  ]);
  return { ...calls, pumped, pairs: pumped.reduce((sum, { pairs }) => sum + pairs, 0) };
}
