// What it costs to wait: beside a bare list of promises, with a timeout, with a signal.

import { setMaxListeners } from "node:events";
import type { Lease, LocalLimiter } from "../src/index.js";
import { type Bench, figure, interleave, medianFigure, type Outcome, type Variant } from "./measure.js";
import { PromiseList, type Release } from "./naive.js";
import { limiterFor, listOf, NO_CAPS, oneTuple, type Tuple } from "./workloads.js";

/** Everybody asks for the one slot, and gives it back when granted. */
async function queueAndDrain<T>(
  count: number,
  acquire: (at: number) => Promise<T>,
  release: (held: T) => void,
): Promise<void> {
  const first = await acquire(0);
  const waiting: Promise<void>[] = [];
  for (let at = 0; at < count; at++) waiting.push(acquire(at).then(release));
  release(first);
  await waiting[count - 1];
}

const releaseLease = (lease: Lease): void => lease.release();

const ONE = oneTuple().stream[0] as Tuple;
const oneSlot = ({ library }: Bench): LocalLimiter => limiterFor(library, [ONE], { ...NO_CAPS, pair: 1 });

export async function drain(bench: Bench): Promise<Outcome> {
  const ops = bench.quick ? 10_000 : 100_000;
  const limiter = oneSlot(bench);
  const list = new PromiseList();
  const releaseSlot = (release: Release): void => release();
  const variants: Variant[] = [
    { name: "list", ops, run: (count) => queueAndDrain(count, () => list.acquire(), releaseSlot) },
    { name: "ours", ops, run: (count) => queueAndDrain(count, () => limiter.acquire(ONE), releaseLease) },
  ];
  // So that the code is compiled.
  await interleave(variants, 5, 0);
  const measured = await interleave(variants, bench.quick ? 9 : 21, 0);
  return {
    figures: [
      medianFigure("beside a bare promise list", measured.ratios("ours", "list"), "×", { most: 1.4 }),
      measured.figure("a request through the list", "list"),
      measured.figure("a request through our line", "ours"),
    ],
  };
}

export async function timeoutsAndSignals(bench: Bench): Promise<Outcome> {
  const ops = 10_000;
  const limiter = oneSlot(bench);
  const delays = listOf(ops, (at) => ({ timeout: 20_000 + ((at * 7919) % 40_000) }));
  const { signal } = new AbortController();
  // Or Node warns of what is compared here.
  setMaxListeners(0, signal);
  const signalled = { signal };
  const waits = (name: string, acquire: (at: number) => Promise<Lease>): Variant => ({
    name,
    ops,
    run: (count) => queueAndDrain(count, acquire, releaseLease),
  });
  const variants: Variant[] = [
    waits("neither", () => limiter.acquire(ONE)),
    waits("timeout", (at) => limiter.acquire(ONE, delays[at])),
    waits("signal", () => limiter.acquire(ONE, signalled)),
    {
      name: "setTimeout",
      ops,
      run() {
        const armed = delays.map(({ timeout }) => setTimeout(() => {}, timeout));
        for (const timer of armed) clearTimeout(timer);
      },
    },
    {
      name: "listeners",
      ops,
      run() {
        const listeners = delays.map(() => () => {});
        for (const listener of listeners) signal.addEventListener("abort", listener, { once: true });
        for (const listener of listeners) signal.removeEventListener("abort", listener);
      },
    },
  ];
  await interleave(variants, 5, 0);
  const measured = await interleave(variants, bench.quick ? 9 : 31, 0);
  return {
    figures: [
      figure(
        "what a timeout that does not end adds, of setTimeout and clearTimeout",
        measured.extra("timeout", "neither", "setTimeout"),
        "×",
        { most: 0.35 },
      ),
      figure("what a shared signal adds, of a listener each", measured.extra("signal", "neither", "listeners"), "×", {
        most: 0.1,
      }),
      measured.figure("a request with neither", "neither"),
      measured.figure("setTimeout and clearTimeout", "setTimeout"),
      measured.figure("a listener each, added and removed", "listeners"),
    ],
  };
}
