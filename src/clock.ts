// The clock of a limiter that was given none.

import type { Clock, Milliseconds } from "./types.js";

/** The longest delay `setTimeout` keeps; a longer one it turns into no delay at all. */
export const LONGEST_DELAY: Milliseconds = 2 ** 31 - 1;

let turn: number | undefined;

const endTurn = (): void => {
  turn = undefined;
};

/**
 * Monotonic: a step of the wall clock ends no wait. The time is that of the event loop's turn, as libuv's own is:
 * asking the system costs several times what the rest of an uncontended `acquire` does, so it is asked once a turn.
 */
export const systemClock: Clock = {
  now() {
    if (turn === undefined) {
      // Whole, as a fraction is an object of its own in every lease.
      turn = Math.round(performance.now());
      setImmediate(endTurn);
    }
    return turn;
  },
  after(delay, run) {
    let timer: NodeJS.Timeout;
    const arm = (left: number): void => {
      timer = left > LONGEST_DELAY ? setTimeout(arm, LONGEST_DELAY, left - LONGEST_DELAY) : setTimeout(run, left);
    };
    arm(delay);
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};
