// Ours over one server beside redis-semaphore and bottleneck: first proved to keep the same limits, then timed.

import type { RedisServer } from "../../test/redis/server.js";
import type { BarGroup, Chart } from "../charts.js";
import { type Bench, type Figure, figure, type Goal, medianFigure, type Outcome, quantile } from "../measure.js";
import { seeded } from "../workloads.js";
import { type Caps, ROOMY, type Stream } from "./limits.js";
import { loaded, type Run, setupOn, withFleet } from "./rig.js";
import { KINDS_OF_SENDERS as ALL, type Kind } from "./senders.js";
import { clock, type Fleet } from "./worker.js";

const OURS = "outbound-limiter";
const BASE = "redis-semaphore";

const MOST_PROOFS = 20;

/** Each limit is reached: of a binding to a domain, to a domain from both bindings, of a binding, of all. */
const TIGHT: Caps = { pair: 2, domain: 3, binding: 5, server: 8 };

/**
 * Two processes want more than the limits; who holds what is counted beside.
 *
 * @throws where more were granted than a limit allows, or a limit was never reached
 */
async function prove(server: RedisServer, fleet: Fleet, bench: Bench, kind: Kind): Promise<void> {
  const setup = setupOn(server, bench, { kind, stream: 3, caps: TIGHT });
  const { redis, prefix } = setup;
  await fleet.tell("open", setup);
  const most = new Map<string, number>();
  const limits = Object.entries(TIGHT);
  const isReached = (): boolean => limits.every(([name, limit]) => (most.get(name) ?? 0) >= limit);
  // On a busy machine it may take a while until they all meet.
  for (let tries = 0; tries < MOST_PROOFS && !isReached(); tries++) {
    const until = clock() + (bench.quick ? 1_000 : 3_000);
    const found = await fleet.tell("count", { inFlight: 12, hold: 40, until, redis, prefix, caps: TIGHT });
    for (const [key, count] of found.flatMap((peaks) => Object.entries(peaks))) {
      const name = key.split(" ", 1)[0] as string;
      most.set(name, Math.max(most.get(name) ?? 0, count));
    }
  }
  await fleet.tell("close");
  for (const [name, limit] of limits) {
    if (most.get(name) === limit) continue;
    throw new Error(`${kind} had ${most.get(name)} connections under the limit ${name}, which is ${limit}`);
  }
}

/** What is run with each number of processes. */
interface Trial {
  readonly name: string;
  readonly stream: Stream;
  readonly kinds: readonly Kind[];
  readonly rate?: Goal;
  readonly scripts?: Goal;
}

const WARM = "one target, spare slots at hand";
const TRIALS: readonly Trial[] = [
  { name: WARM, stream: "one", kinds: ALL, rate: { least: 50 }, scripts: { most: 0.01 } },
  {
    name: "a new domain each time, no spare slots",
    stream: "new",
    kinds: [OURS, BASE],
    rate: { least: 5 },
    scripts: { most: 0.05 },
  },
  { name: "2,000 domains", stream: 2_000, kinds: [OURS, BASE] },
];
/** With a limit of 2 for each pair, a process that got one of them gets no other to spare. */
const EXACT: Caps = { ...ROOMY, pair: 2 };

/** Each kind once a round, in another order each time. */
async function timed(server: RedisServer, fleet: Fleet, bench: Bench, trial: Trial): Promise<Map<Kind, Run[]>> {
  const { quick } = bench;
  const random = seeded(7);
  const runs = new Map<Kind, Run[]>();
  for (let round = 0; round < (quick ? 1 : 5); round++) {
    const order = trial.kinds.map((kind) => [random(), kind] as const).sort(([a], [b]) => a - b);
    for (const [, kind] of order) {
      const caps = trial.stream === "new" ? EXACT : ROOMY;
      await fleet.tell("open", setupOn(server, bench, { kind, stream: trial.stream, caps }));
      const run = await loaded(server, fleet, {
        inFlight: 32,
        goingAfter: quick ? 200 : 500,
        measured: quick ? 300 : 1_500,
      });
      await fleet.tell("close");
      runs.set(kind, [...(runs.get(kind) ?? []), run]);
    }
  }
  return runs;
}

function figuresOf({ name, rate, scripts }: Trial, where: string, runs: ReadonlyMap<Kind, readonly Run[]>): Figure[] {
  const base = runs.get(BASE) as readonly Run[];
  return [...runs].flatMap(([kind, all]) => {
    const what = `${where}, ${name}: ${kind}`;
    const isOurs = kind === OURS;
    const ratios = all.map(({ pairs }, round) => pairs / (base[round] as Run).pairs);
    const sum = (of: "pairs" | "scripts" | "zrems"): number => all.reduce((so, run) => so + run[of], 0);
    return [
      ...(kind === BASE ? [] : [medianFigure(what, ratios, `× ${BASE}`, isOurs ? (rate ?? {}) : {})]),
      figure(what, sum("scripts") / sum("pairs"), "scripts a connection", isOurs ? (scripts ?? {}) : {}),
      ...(kind === BASE ? [figure(what, sum("zrems") / sum("pairs"), "other commands a connection")] : []),
    ];
  });
}

export async function clusterPeers(bench: Bench): Promise<Outcome> {
  const figures: Figure[] = [];
  const groups: BarGroup[] = [];
  for (const count of bench.quick ? [2] : [1, 2, 4]) {
    await withFleet(count, async (server, fleet) => {
      if (count === 2) for (const kind of ALL) await prove(server, fleet, bench, kind);
      const where = count === 1 ? "1 process" : `${count} processes`;
      for (const trial of TRIALS) {
        const runs = await timed(server, fleet, bench, trial);
        figures.push(...figuresOf(trial, where, runs));
        const rate = (kind: Kind): number =>
          quantile(
            (runs.get(kind) ?? []).map(({ pairs }) => pairs),
            0.5,
          );
        if (trial.name === WARM) {
          groups.push({ name: where, bars: ALL.map((name) => ({ name, value: rate(OURS) / rate(name) })) });
        }
      }
    });
  }
  const chart: Chart = {
    file: "cluster.svg",
    kind: "bars",
    scale: "powers",
    title: "Time a connection under four limits over one Redis costs, outbound-limiter = 1",
    note: "room for everybody, 32 in flight a process; shorter is cheaper, each line to the right ten times dearer",
    unit: "×",
    groups,
  };
  return { figures, charts: [chart] };
}
