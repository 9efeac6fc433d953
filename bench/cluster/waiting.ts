// Waiting over processes: what a connection costs the server, whose turn it is, and how long a slot lies idle in between.

import { type Bench, type Figure, figure, type Outcome, quantile } from "../measure.js";
import { only, type Stream } from "./limits.js";
import { loaded, setupOn, withFleet } from "./rig.js";
import type { Kind } from "./senders.js";
import type { Connection } from "./worker.js";

const PROCESSES = 4;
/** How long a connection is held on average, in milliseconds. */
const HOLD = 5;

interface Crowd {
  readonly name: string;
  readonly kind: Kind;
  readonly stream: Stream;
  readonly slots: number;
  readonly waiting: number;
}

const CROWDS: readonly Crowd[] = [
  ...[10, 100, 1_000].map(
    (waiting): Crowd => ({
      name: `${waiting.toLocaleString("en")} waiting for 8 slots`,
      kind: "outbound-limiter",
      stream: "one",
      slots: 8,
      waiting,
    }),
  ),
  {
    name: "1,000 waiting for 100 domains with one slot each",
    kind: "outbound-limiter",
    stream: 100,
    slots: 1,
    waiting: 1_000,
  },
  { name: "redis-semaphore, 100 waiting for 8 slots", kind: "redis-semaphore", stream: "one", slots: 8, waiting: 100 },
];

/** Scripts a connection, with few and with many waiting. */
export async function clusterContended(bench: Bench): Promise<Outcome> {
  const figures = await withFleet(PROCESSES, async (server, fleet) => {
    const found: Figure[] = [];
    for (const { name, kind, stream, slots, waiting } of CROWDS) {
      await fleet.tell("open", setupOn(server, bench, { kind, stream, caps: only(slots) }));
      const held = typeof stream === "number" ? stream * slots : slots;
      const { scripts, pairs } = await loaded(server, fleet, {
        inFlight: Math.ceil((held + waiting) / PROCESSES),
        hold: HOLD,
        spread: 0.5,
        goingAfter: bench.quick ? 200 : 2_000,
        measured: bench.quick ? 500 : 5_000,
      });
      await fleet.tell("close");
      const isOurs = kind === "outbound-limiter";
      const what = `${isOurs ? "G7: " : ""}${name}`;
      found.push(figure(what, scripts / pairs, "scripts a connection", isOurs ? { most: 2.2 } : {}));
    }
    return found;
  });
  return { figures };
}

/** Ten processes for three slots. */
export async function clusterTurns(bench: Bench): Promise<Outcome> {
  const [processes, slots, measured] = [10, 3, bench.quick ? 1_000 : 20_000];
  const pumped = await withFleet(processes, async (server, fleet) => {
    await fleet.tell("open", setupOn(server, bench, { stream: "one", caps: only(slots) }));
    const run = await loaded(server, fleet, { inFlight: 2, hold: 50, goingAfter: bench.quick ? 500 : 3_000, measured });
    await fleet.tell("close");
    return run.pumped;
  });
  const all = pumped.flatMap(({ connections }) => connections);
  const usual = all.length / processes;
  const off = pumped.map(({ pairs }) => Math.abs(pairs / usual - 1));
  const waits = all.map(({ asked, granted }) => granted - asked);
  const held = all.reduce((sum, { granted, released }) => sum + released - granted, 0);
  return {
    figures: [
      figure("G8: a process's share, the farthest from a tenth", Math.max(...off) * 100, "% off", { most: 10 }),
      figure("G8: p99 of the waits", quantile(waits, 0.99) / quantile(waits, 0.5), "× the median", { most: 1.3 }),
      figure("G8: slots in use", (held / (slots * measured)) * 100, "%", { least: 90 }),
      figure("median wait", quantile(waits, 0.5), "ms"),
      figure("connections", all.length, ""),
    ],
  };
}

/** From the release in one process to the grant in another, over all connections of two processes that take turns. */
function handOvers(processes: readonly (readonly Connection[])[]): number[] {
  const all = processes.flatMap((connections, index) => connections.map((connection) => ({ index, ...connection })));
  all.sort((a, b) => a.granted - b.granted);
  return all.slice(1).flatMap(({ index, granted }, at) => {
    const before = all[at];
    return before === undefined || before.index === index ? [] : [granted - before.released];
  });
}

/** One slot between two processes: with messages, and with all of them lost. */
export async function clusterHandOver(bench: Bench): Promise<Outcome> {
  const { quick } = bench;
  const ttl = quick ? 1_000 : 5_000;
  const beat = ttl / 5;
  const setup = { stream: "one", caps: only(1) } as const;
  const [told, lost] = await withFleet(2, async (server, fleet) => {
    await fleet.tell("open", setupOn(server, bench, setup));
    const load = { inFlight: 1, goingAfter: 1_000 };
    const heard = await loaded(server, fleet, { ...load, hold: 10, spread: 0.5, measured: quick ? 2_000 : 10_000 });
    await fleet.tell("close");
    await fleet.tell("open", setupOn(server, bench, { ...setup, isDeaf: true, options: { ttl } }));
    const unheard = await loaded(server, fleet, {
      ...load,
      hold: beat,
      spread: 0.9,
      measured: beat * (quick ? 8 : 60),
    });
    await fleet.tell("close");
    return [heard, unheard].map(({ pumped }) => handOvers(pumped.map(({ connections }) => connections)));
  });
  const [gaps, beats] = [told ?? [], (lost ?? []).map((gap) => gap / beat)];
  return {
    figures: [
      figure("G9: hand-over, median", quantile(gaps, 0.5), "ms", { most: 5 }),
      figure("G9: hand-over, p99", quantile(gaps, 0.99), "ms", { most: 5 }),
      figure("hand-overs", gaps.length, ""),
      figure("G9: every message lost, the longest hand-over", Math.max(...beats), "heartbeats", { most: 1 }),
      figure("every message lost, median", quantile(beats, 0.5), "heartbeats"),
      figure("hand-overs, every message lost", beats.length, ""),
    ],
  };
}
