// The clock of a limiter that was given none.

import type { Clock } from "./types.js";

/** The longest delay `setTimeout` keeps; a longer one it turns into no delay at all. */
const LONGEST_DELAY = 2 ** 31 - 1;

/** Monotonic: a step of the wall clock ends no wait. */
export const systemClock: Clock = {
  now: () => performance.now(),
  after(delay, run) {
    let timer: NodeJS.Timeout;
    const arm = (left: number): void => {
      timer = left > LONGEST_DELAY ? setTimeout(arm, LONGEST_DELAY, left - LONGEST_DELAY) : setTimeout(run, left);
    };
    arm(delay);
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};
