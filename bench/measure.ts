// How things are measured: interleaved rounds of CPU time, ratios within a round, medians, percentiles, bytes.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Chart } from "./charts.js";
import { type Library, seeded } from "./workloads.js";

export interface Bench {
  readonly library: Library;
  /** URL of its module, for other processes. */
  readonly url: string;
  /** A short form that shows that it works. */
  readonly quick: boolean;
}

/** At most, or at least, so much. */
export interface Goal {
  readonly most?: number;
  readonly least?: number;
}

/** One measured number, with its goal if it has one. */
export interface Figure extends Goal {
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  /** The quartiles, where it is a median of rounds. */
  readonly between?: readonly [number, number];
}

/** What one part of the bench found. */
export interface Outcome {
  readonly figures: readonly Figure[];
  readonly charts?: readonly Chart[];
}

export const figure = (what: string, value: number, unit: string, goal: Goal = {}): Figure => ({
  what,
  value,
  unit,
  ...goal,
});

/** The median of what was measured in each round. */
export const medianFigure = (what: string, values: readonly number[], unit: string, goal: Goal = {}): Figure => ({
  ...figure(what, quantile(values, 0.5), unit, goal),
  between: [quantile(values, 0.25), quantile(values, 0.75)],
});

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as (options?: { readonly type: "minor" }) => void;

/** Something to time. `run` does so many operations; where each can be done once only, `ops` fixes how many. */
export interface Variant {
  readonly name: string;
  readonly ops?: number;
  run(ops: number): void | Promise<void>;
}

/** Lets promises, and what was put off to the next turn, go on. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** The value below which that part of all values lies. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

export const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** CPU time of the process in nanoseconds: with it the garbage collector's and the compiler's threads. */
function cpuNow(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

/** What so many operations take: nanoseconds of CPU time, and of real time. */
async function timesOf(variant: Variant, ops: number): Promise<{ readonly cpu: number; readonly wall: number }> {
  collect({ type: "minor" });
  const [cpu, wall] = [cpuNow(), performance.now()];
  const done = variant.run(ops);
  if (done !== undefined) await done;
  return { cpu: cpuNow() - cpu, wall: (performance.now() - wall) * 1e6 };
}

/** CPU nanoseconds an operation, by variant, one value a round. */
export class Rounds {
  readonly #costs = new Map<string, number[]>();

  add(name: string, nanoseconds: number): void {
    const costs = this.#costs.get(name);
    if (costs === undefined) this.#costs.set(name, [nanoseconds]);
    else costs.push(nanoseconds);
  }

  of(name: string): readonly number[] {
    return this.#costs.get(name) ?? [];
  }

  /** What one costs in terms of another, round by round: a slow phase of the machine hits both. */
  ratios(name: string, base: string): readonly number[] {
    const bases = this.of(base);
    return this.of(name).map((cost, round) => cost / (bases[round] ?? Number.NaN));
  }

  /** What one costs more than the `without` it is built on, in terms of another: a difference of medians. */
  extra(name: string, without: string, base: string): number {
    const median = (of: string): number => quantile(this.of(of), 0.5);
    return (median(name) - median(without)) / median(base);
  }

  figure(what: string, name: string): Figure {
    return medianFigure(`${what}, CPU time`, this.of(name), "ns");
  }
}

/**
 * Times the variants in turn, in each round in another order: always in the same place, one would get all the garbage
 * collections. A round takes some `milliseconds` for each; 0 for
 * variants that all say themselves how many operations they do.
 */
export async function interleave(variants: readonly Variant[], rounds: number, milliseconds: number): Promise<Rounds> {
  const measured = new Rounds();
  const random = seeded(rounds);
  const ops = new Map<Variant, number>();
  for (const variant of variants) ops.set(variant, variant.ops ?? (await calibrate(variant, milliseconds)));
  // Some that do not count: the compiler works behind, and on a busy machine late.
  for (let round = milliseconds > 0 ? -3 : 0; round < rounds; round++) {
    for (const variant of shuffled(variants, random)) {
      const count = ops.get(variant) as number;
      const { cpu } = await timesOf(variant, count);
      if (round >= 0) measured.add(variant.name, cpu / count);
    }
  }
  return measured;
}

function shuffled<T>(all: readonly T[], random: () => number): T[] {
  const places = all.map((one) => [random(), one] as const);
  return places.sort(([a], [b]) => a - b).map(([, one]) => one);
}

/** How many operations take so long; on the way the code is compiled. */
async function calibrate(variant: Variant, milliseconds: number): Promise<number> {
  const wanted = milliseconds * 1e6;
  for (let ops = 1; ; ops *= 2) {
    let least = Number.POSITIVE_INFINITY;
    // Three times, or a compiler or collector at work behind would pass for the work.
    for (let tries = 0; tries < 3 && least >= wanted / 2; tries++) {
      const { cpu, wall } = await timesOf(variant, ops);
      // One that mostly sleeps.
      if (wall >= wanted * 5) return ops;
      least = Math.min(least, cpu);
    }
    if (least >= wanted / 2) return Math.max(1, Math.round((ops * wanted) / least));
  }
}

/** Bytes in use once garbage is gone. */
export async function liveHeap(): Promise<number> {
  for (let i = 0; i < 4; i++) {
    await turn();
    collect();
  }
  return process.memoryUsage().heapUsed;
}

/** Bytes that `work` allocates, which must be few enough not to fill the young generation. */
export function allocatedBy(work: () => void): number {
  const tries: number[] = [];
  for (let i = 0; i < 30; i++) {
    collect({ type: "minor" });
    const before = process.memoryUsage().heapUsed;
    work();
    tries.push(process.memoryUsage().heapUsed - before);
  }
  // A collection in between makes it less than nothing, a compilation makes it more.
  return quantile(
    tries.filter((bytes) => bytes > 0),
    0.25,
  );
}
