// What a fleet costs the server: bytes for what is held, calls while nothing happens, and what is left of it in the end.

import { setTimeout as sleep } from "node:timers/promises";
import type { RedisServer } from "../../test/redis/server.js";
import { type Bench, type Figure, figure, type Outcome } from "../measure.js";
import { only, ROOMY } from "./limits.js";
import { callsBetween, setupOn, withFleet } from "./rig.js";
import { clock } from "./worker.js";

const PROCESSES = 4;

async function keysOf(server: RedisServer): Promise<readonly string[]> {
  return (await server.command("KEYS", "*")) as string[];
}

async function bytesIn(server: RedisServer): Promise<number> {
  let bytes = 0;
  for (const key of await keysOf(server)) bytes += Number(await server.command("MEMORY", "USAGE", key, "SAMPLES", 0));
  return bytes;
}

export async function clusterEngine(bench: Bench): Promise<Outcome> {
  const { quick } = bench;
  const each = quick ? 500 : 12_500;
  // In full the default: what is measured is then what users get.
  const ttl = quick ? 1_000 : 15_000;
  const watched = 2 * ttl;
  const figures = await withFleet(PROCESSES, async (server, fleet) => {
    const found: Figure[] = [];
    const watch = async (what: string): Promise<void> => {
      // Spare slots go back first, after one to two seconds.
      await sleep(2_500);
      const from = clock();
      const { scripts } = await callsBetween(server, from, from + watched);
      found.push(
        figure(`G11: ${what}`, scripts / PROCESSES / (watched / ttl), "calls a process and ttl", { most: 5 }),
        figure(what, scripts / (watched / 1_000), "calls a second"),
      );
    };
    for (const domains of quick ? [200] : [2_000, 200]) {
      await fleet.tell("open", setupOn(server, bench, { stream: domains, caps: ROOMY, options: { ttl } }));
      await fleet.tell("take", { count: each, wait: true });
      const held = (each * PROCESSES).toLocaleString("en");
      const name = `${held} connections held, to ${domains.toLocaleString("en")} domains from two bindings`;
      // Without what is only spare.
      await sleep(2_500);
      found.push(figure(`G11: ${name}`, (await bytesIn(server)) / each / PROCESSES, "bytes each", { most: 60 }));
      if (domains === 200) await watch(`${PROCESSES} processes that hold them`);
      await fleet.tell("close");
      await server.command("FLUSHALL");
    }
    await fleet.tell("open", setupOn(server, bench, { stream: "one", caps: only(8), options: { ttl } }));
    await watch(`${PROCESSES} idle processes`);
    await fleet.tell("take", { count: 100, wait: false });
    await watch(`${PROCESSES} processes with 100 waiting in each`);
    await fleet.tell("close");
    await server.command("FLUSHALL");

    const short = 500;
    await fleet.tell("open", setupOn(server, bench, { stream: 200, caps: ROOMY, options: { ttl: short } }));
    await fleet.tell("take", { count: 100, wait: true });
    const [first, ...others] = fleet.all;
    await first?.tell("close");
    for (const other of others) await other.kill();
    await sleep(4 * short + 250);
    const left = (await keysOf(server)).length;
    found.push(figure("G11: 4 ttl after the last process was closed or killed", left, "keys left", { most: 0 }));
    return found;
  });
  return { figures };
}
