// A process of a fleet: opens a sender, and asks, holds and releases as it is told. And the fleet, as the part sees it.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { turn } from "../measure.js";
import { seeded } from "../workloads.js";
import { type Caps, limitsOf, type Stream, targetsOf } from "./limits.js";
import { type Held, openSender, type Sender, type Setup } from "./senders.js";

/** Milliseconds on a clock that all processes of a machine share. */
export const clock = (): number => Number(process.hrtime.bigint()) / 1e6;

/** So many in flight, each followed by another, until a time on the shared clock. */
export interface Pump {
  readonly inFlight: number;
  readonly until: number;
  /** How long one is held, in milliseconds; with a spread, up to that part of it longer or shorter. */
  readonly hold?: number;
  readonly spread?: number;
  /** Only what ended from then on counts. */
  readonly from?: number;
}

/** One connection, in times on the shared clock. */
export interface Connection {
  readonly asked: number;
  readonly granted: number;
  readonly released: number;
}

/** How many ended in time; with a hold, each of them. */
export interface Pumped {
  readonly pairs: number;
  readonly connections: readonly Connection[];
}

/** How many held the slots of each limit at one time, at most. */
type Peaks = Readonly<Record<string, number>>;

/** What a process of a fleet can be told. */
class Worker {
  readonly #index: number;
  #sender: Sender | undefined;
  #stream: Stream = "one";
  #held: Held[] = [];
  #granted: number[] = [];
  #lost = 0;

  constructor(index: number) {
    this.#index = index;
  }

  async open(setup: Setup): Promise<void> {
    this.#stream = setup.stream;
    this.#sender = await openSender(setup);
  }

  async pump(order: Pump): Promise<Pumped> {
    const sender = this.#opened();
    const { inFlight, until, hold = 0, spread = 0, from = 0 } = order;
    const next = targetsOf(this.#stream, this.#index);
    const random = seeded(this.#index);
    const connections: Connection[] = [];
    const end = performance.now() + until - clock();
    const start = end - (until - from);
    let pairs = 0;
    const loop = async (): Promise<void> => {
      for (let count = 1; performance.now() < end; count++) {
        const asked = hold > 0 ? clock() : 0;
        const held = await sender.acquire(next());
        const granted = hold > 0 ? clock() : 0;
        if (hold > 0) await closed(held, hold * (1 + spread * (2 * random() - 1)));
        const released = hold > 0 ? clock() : 0;
        const back = held.release();
        if (back !== undefined) await back;
        const now = performance.now();
        if (now >= start && now < end) {
          pairs++;
          if (hold > 0) connections.push({ asked, granted, released });
        }
        // One that has to wait for nothing must not keep the process from hearing anything else.
        if (count % 100 === 0) await turn();
      }
    };
    await Promise.all(Array.from({ length: inFlight }, loop));
    return { pairs, connections };
  }

  /** As `pump`, with few slots; counts who holds each, over all processes, at the server. */
  async count(order: Pump & { readonly redis: string; readonly prefix: string; readonly caps: Caps }): Promise<Peaks> {
    const sender = this.#opened();
    const { inFlight, until, hold = 0, prefix, caps } = order;
    const next = targetsOf(this.#stream, this.#index);
    const observer = new Redis(order.redis);
    const peaks: Record<string, number> = {};
    const loop = async (): Promise<void> => {
      while (clock() < until) {
        const target = next();
        const held = await sender.acquire(target);
        const keys = limitsOf(target, caps, (key) => key);
        const counts = keys.map((key) => observer.incr(`${prefix} held ${key}`));
        for (const [at, count] of (await Promise.all(counts)).entries()) {
          const key = String(keys[at]);
          peaks[key] = Math.max(peaks[key] ?? 0, count);
        }
        await sleep(hold);
        await Promise.all(keys.map((key) => observer.decr(`${prefix} held ${key}`)));
        await held.release();
      }
    };
    await Promise.all(Array.from({ length: inFlight }, loop));
    observer.disconnect();
    return peaks;
  }

  /** Asks for so many, and keeps what is granted. Resolves with when each was, if `wait`; else at once. */
  async take({ count, wait }: { readonly count: number; readonly wait: boolean }): Promise<readonly number[]> {
    const sender = this.#opened();
    const next = targetsOf(this.#stream, this.#index);
    const asked = Array.from({ length: count }, async () => {
      const held = await sender.acquire(next());
      this.#granted.push(clock());
      this.#held.push(held);
      held.lost?.addEventListener("abort", () => this.#lost++);
    });
    // Those of a sender that is closed meanwhile are refused.
    const all = Promise.all(asked).catch(() => {});
    if (wait) await all;
    return this.#granted.splice(0);
  }

  /** When those were granted that `take` did not wait for, since last asked; and how many were lost. */
  granted(): { readonly granted: readonly number[]; readonly lost: number } {
    return { granted: this.#granted.splice(0), lost: this.#lost };
  }

  /** Gives back so many. Returns when. */
  async release(count: number): Promise<number> {
    const now = clock();
    const releases = this.#held.splice(0, count).map(async (held) => held.release());
    await Promise.all(releases);
    return now;
  }

  async close(): Promise<void> {
    await this.release(this.#held.length);
    await this.#sender?.close();
    this.#sender = undefined;
  }

  #opened(): Sender {
    if (this.#sender === undefined) throw new Error("Not opened");
    return this.#sender;
  }
}

/** The connection is over: after its time, or because the slots were lost. */
async function closed({ lost }: Held, time: number): Promise<void> {
  try {
    await sleep(time, undefined, lost && { signal: lost });
  } catch {
    // Lost.
  }
}

/** One process of a fleet. */
export class Remote {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (answer: unknown) => void; reject: (error: unknown) => void }>();
  #calls = 0;

  constructor(index: number) {
    this.#child = fork(fileURLToPath(import.meta.url), [String(index)], {
      execArgv: ["--import", "tsx"],
      serialization: "advanced",
    });
    this.#child.on("message", (message) => {
      const { call, answer, error } = message as { call: number; answer?: unknown; error?: string };
      const waiting = this.#waiting.get(call);
      this.#waiting.delete(call);
      if (error === undefined) waiting?.resolve(answer);
      else waiting?.reject(new Error(error));
    });
    this.#child.on("exit", (status, signal) => {
      for (const { reject } of this.#waiting.values())
        reject(new Error(`A process of the fleet ended: ${String(signal ?? status)}`));
    });
  }

  /** Has the process do something, and answer. */
  readonly tell = <Order extends keyof Worker>(
    order: Order,
    ...args: Parameters<Worker[Order]>
  ): Promise<Awaited<ReturnType<Worker[Order]>>> => {
    const call = this.#calls++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(call, { resolve: resolve as (answer: unknown) => void, reject });
      this.#child.send({ call, order, args });
    });
  };

  /** SIGKILL. Resolves when the process is gone. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await gone;
  }
}

/** So many processes. Ends them when it is disposed of. */
export class Fleet implements AsyncDisposable {
  readonly all: readonly Remote[];

  constructor(count: number) {
    this.all = Array.from({ length: count }, (_, index) => new Remote(index));
  }

  /** Has all do the same at the same time. */
  async tell<Order extends keyof Worker>(
    order: Order,
    ...args: Parameters<Worker[Order]>
  ): Promise<Awaited<ReturnType<Worker[Order]>>[]> {
    return Promise.all(this.all.map((remote) => remote.tell(order, ...args)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.all.map((remote) => remote.kill()));
  }
}

// The other end of the fork.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const worker = new Worker(Number(process.argv[2]));
  process.on("message", (message) => {
    const { call, order, args } = message as { call: number; order: keyof Worker; args: readonly never[] };
    const run = async (): Promise<unknown> =>
      (worker[order] as (...args: readonly never[]) => unknown).apply(worker, [...args]);
    run().then(
      (answer) => process.send?.({ call, answer }),
      (error: unknown) => process.send?.({ call, error: String(error instanceof Error ? error.stack : error) }),
    );
  });
  process.on("disconnect", () => process.exit());
}
