// Cost that grows with the size and not with its square, told apart on a machine that does other things as well.

import { expect } from "vitest";

/** How many times as large the next size is. */
export const GROWTH = 16;
/** Sixteen times the size may cost this many times as much: room for noise and the memory, and far below 256, the square. */
const MOST = GROWTH * 5;
/** Less than this cannot be told from noise. */
const LEAST_MICROSECONDS = 2000;
/** Noise does not take this long: not worth another try. */
const HOPELESS_MICROSECONDS = 5_000_000;
const TRIES = 5;

/** Processor time in microseconds, of the whole process: memory that is collected beside `run` counts as well. */
function cost(run: () => unknown): number {
  const before = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(before);
  return Math.max(user + system, LEAST_MICROSECONDS);
}

/**
 * Compares sizes step by step, from `smallest` to `largest`, so that a square is found before it takes minutes. A step that looks
 * bad is tried again, and the least of each size counts: noise and the collector only add, a square is there every time.
 */
export function expectLinear(smallest: number, largest: number, prepare: (size: number) => () => unknown): void {
  let small = prepare(smallest);
  small();
  for (let size = smallest; size * GROWTH <= largest; size *= GROWTH) {
    const large = prepare(size * GROWTH);
    let base = cost(small);
    let next = cost(large);
    for (let tries = 1; next / base > MOST && tries < TRIES && next < HOPELESS_MICROSECONDS; tries++) {
      base = Math.min(base, cost(small));
      next = Math.min(next, cost(large));
    }
    expect(next / base, `${size} to ${size * GROWTH}`).toBeLessThan(MOST);
    small = large;
  }
}
