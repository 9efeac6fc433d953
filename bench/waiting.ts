// The waiting line: what a release costs with others waiting, and how far one call goes.

import { Session } from "node:inspector";
import type { Lease, LocalLimiter } from "../src/index.js";
import type { Chart } from "./charts.js";
import { type Bench, type Figure, figure, mean, type Outcome, quantile, turn } from "./measure.js";
import { type Granted, type Line, OneList, ParkedAlone, type Release } from "./naive.js";
import { type Caps, crossBlocked, limiterFor, listOf, NO_CAPS, saturated, type Tuple } from "./workloads.js";

/** Ours as a way to wait. */
export function ourLine(limiter: LocalLimiter, granted: Granted): Line {
  const onLease = ({ target, release }: Lease): void => granted(target as Tuple, release);
  return { ask: (tuple) => void limiter.acquire(tuple).then(onLease) };
}

/** Tells by a promise, as ours does. */
function promised(granted: Granted): Granted {
  return (tuple, release) => void Promise.resolve(release).then((given) => granted(tuple, given));
}

/** A line with many waiting. For whoever goes another one comes, so that they stay as many. */
class Crowd {
  readonly #held: Release[] = [];
  #oldest = 0;
  /** Granted since it went on. */
  readonly #gone: Tuple[] = [];
  readonly #next: (gone: Tuple) => Tuple;
  readonly #line: Line;

  private constructor(next: (gone: Tuple) => Tuple, makeLine: (granted: Granted) => Line) {
    this.#next = next;
    this.#line = makeLine((tuple, release) => {
      this.#held.push(release);
      this.#gone.push(tuple);
    });
  }

  /**
   * @param tuples who asks to begin with
   * @param next who asks in the place of one that went
   */
  static async of(
    tuples: readonly Tuple[],
    next: (gone: Tuple) => Tuple,
    makeLine: (granted: Granted) => Line,
  ): Promise<Crowd> {
    const crowd = new Crowd(next, makeLine);
    for (const tuple of tuples) crowd.#line.ask(tuple);
    await turn();
    crowd.#gone.length = 0;
    return crowd;
  }

  /** How the connection that is open longest is ended. */
  oldest(): Release {
    const oldest = this.#held[this.#oldest++];
    if (oldest === undefined) throw new Error("Nothing is held");
    return oldest;
  }

  async goOn(): Promise<void> {
    await turn();
    for (const tuple of this.#gone.splice(0)) this.#line.ask(this.#next(tuple));
  }
}

/** Connections that end in one turn of the event loop, each in a callback of its own. */
const IN_ONE_TURN = 16;
/** Turns that are not counted: the code is compiled in them. */
const WARM = 200;

/** The end of a callback: promises settle, and what they put off, before the next one. */
const nextCallback = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve));

/** Microseconds of each release, by crowd; the crowds in turn. */
async function timeReleases(crowds: readonly Crowd[], count: number): Promise<number[][]> {
  const took: number[][] = crowds.map(() => []);
  for (let at = -WARM; at < count / IN_ONE_TURN; at++) {
    for (const [i, crowd] of crowds.entries()) {
      for (let n = 0; n < IN_ONE_TURN; n++) {
        const release = crowd.oldest();
        const start = performance.now();
        release();
        const microseconds = (performance.now() - start) * 1000;
        if (at >= 0) took[i]?.push(microseconds);
        await nextCallback();
      }
      await crowd.goOn();
    }
  }
  return took;
}

interface Took {
  /** As measured, of all runs together. */
  readonly raw: readonly number[];
  /**
   * The least of three runs that are the same to the last move: what each release costs, without what the machine and
   * the garbage collector did meanwhile.
   */
  readonly least: readonly number[];
}

/** The same three times, from the start. */
async function replayed(makeCrowds: () => Promise<readonly Crowd[]>, count: number): Promise<Took[]> {
  const all: number[][][] = [];
  for (let run = 0; run < 3; run++) all.push(await timeReleases(await makeCrowds(), count));
  const crowds = all[0] ?? [];
  return crowds.map((times, crowd) => ({
    raw: all.flatMap((run) => run[crowd] ?? []),
    least: times.map((_, at) => Math.min(...all.map((run) => run[crowd]?.[at] ?? Number.NaN))),
  }));
}

/** Of the crowd in which it is the slowest. */
function tails(took: readonly Took[], most: number): Figure[] {
  const worst = (part: number, times: keyof Took): number => Math.max(...took.map((one) => quantile(one[times], part)));
  const replays = "the least of three runs that are the same";
  return [
    figure("p99.9 of a release", worst(0.999, "raw"), "µs", { most }),
    figure(`p99.9 of a release, ${replays}`, worst(0.999, "least"), "µs"),
    figure(`the slowest release, ${replays}`, worst(1, "least"), "µs"),
  ];
}

const HOT_CAPS: Caps = { ...NO_CAPS, server: 1000, hot: 50 };

type MakeLine = (tuples: readonly Tuple[], caps: Caps) => (granted: Granted) => Line;

const ours =
  ({ library }: Bench): MakeLine =>
  (tuples, caps) =>
  (granted) =>
    ourLine(limiterFor(library, tuples, caps), granted);

export async function releaseCost(bench: Bench): Promise<Outcome> {
  const { quick } = bench;
  const parkedAlone: MakeLine = (_, caps) => (granted) => new ParkedAlone(caps, promised(granted));
  const oneList: MakeLine = (_, caps) => (granted) => new OneList(caps, promised(granted));
  const designs: readonly (readonly [name: string, make: MakeLine, most: number, count: number])[] = [
    ["outbound-limiter", ours(bench), 1_000_000, 20_000],
    ["each request parked alone", parkedAlone, 1_000_000, 20_000],
    ["one list, scanned", oneList, 100_000, 2_000],
  ];
  const lines: { name: string; points: [number, number][] }[] = [];
  const figures: Figure[] = [];
  for (const [name, makeLine, most, count] of designs) {
    const sizes = [1_000, 10_000, 100_000, 1_000_000].filter((size) => size <= (quick ? 10_000 : most));
    const makeCrowds = async (): Promise<Crowd[]> => {
      const crowds: Crowd[] = [];
      for (const size of sizes) {
        // Those that wait and the 1,000 that do not.
        const tuples = saturated(size + HOT_CAPS.server, 10_000);
        // Whoever goes asks again: they stay as mixed as they are.
        crowds.push(await Crowd.of(tuples, (gone) => gone, makeLine(tuples, HOT_CAPS)));
      }
      return crowds;
    };
    const took = await replayed(makeCrowds, quick ? count / 10 : count);
    const means = took.map(({ least }) => mean(least));
    lines.push({ name, points: sizes.map((size, i) => [size, means[i] as number]) });
    for (const [i, size] of sizes.entries())
      figures.push(figure(`${name}, ${size.toLocaleString("en")} waiting: a release`, means[i] as number, "µs"));
    if (name === "outbound-limiter") {
      const ratio = Math.max(...means) / Math.min(...means);
      figures.unshift(
        figure("the dearest of these sizes beside the cheapest", ratio, "×", { most: 2.2 }),
        ...tails(took, 5),
      );
    }
  }
  const chart: Chart = {
    file: "release.svg",
    kind: "lines",
    title: "What a release costs while others wait",
    note: "three hot domains under a full server; microseconds a release, on average; lower and flat is better",
    across: "requests waiting",
    unit: "µs",
    lines,
  };
  return { figures, charts: [chart] };
}

const CROSS_CAPS: Caps = { ...NO_CAPS, binding: 1, domain: 1 };

function crossedCrowd(bench: Bench, size: number, waiting: number): Promise<Crowd> {
  const next = crossBlocked(size);
  const tuples = listOf(waiting + size, next);
  return Crowd.of(tuples, next, ours(bench)(tuples, CROSS_CAPS));
}

export async function crossBlockedCost(bench: Bench): Promise<Outcome> {
  const { quick } = bench;
  const makeCrowds = async (): Promise<Crowd[]> => [
    await crossedCrowd(bench, quick ? 30 : 100, quick ? 5_000 : 100_000),
  ];
  const took = await replayed(makeCrowds, quick ? 2_000 : 20_000);
  const average = mean(took.flatMap(({ least }) => least));
  return { figures: [...tails(took, 20), figure("a release, on average", average, "µs")] };
}

/** The functions of the line that are called once for each queue it tries. */
const MOVES = ["#admit", "#passOver"];

export async function moves(bench: Bench): Promise<Outcome> {
  const crowd = await crossedCrowd(bench, bench.quick ? 80 : 150, bench.quick ? 10_000 : 50_000);
  const session = new Session();
  session.connect();
  session.post("Profiler.enable");
  session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: false });
  const totals = new Map(MOVES.map((name) => [name, 0]));
  /** Since it was asked before. */
  const calls = (): number => {
    let count = 0;
    session.post("Profiler.takePreciseCoverage", (_, { result }) => {
      for (const { functionName, ranges } of result.flatMap(({ functions }) => functions)) {
        const total = totals.get(functionName);
        if (total === undefined) continue;
        const called = ranges[0]?.count ?? 0;
        totals.set(functionName, total + called);
        count += called;
      }
    });
    return count;
  };
  const counts: number[] = [];
  for (let i = 0; i < (bench.quick ? 100 : 1000); i++) {
    const release = crowd.oldest();
    calls();
    release();
    counts.push(calls());
    await crowd.goOn();
  }
  session.disconnect();
  for (const [name, total] of totals) if (total === 0) throw new Error(`Nothing called ${name}: what is a move now?`);
  return {
    figures: [
      figure("most in one call", quantile(counts, 1), "moves", { most: 64 }),
      figure("median", quantile(counts, 0.5), "moves"),
    ],
  };
}
