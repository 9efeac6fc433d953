// A timer that is armed again and again, mostly for later: moving it on costs nothing.

import { performance } from "node:perf_hooks";
import type { Milliseconds } from "../types.js";

/** Runs on time or late, never early, and keeps no process alive. */
export class Timer {
  readonly #run: () => void;
  #timer: NodeJS.Timeout | undefined;
  #due = Number.POSITIVE_INFINITY;

  constructor(run: () => void) {
    this.#run = run;
  }

  /** After that delay; whatever it was set to before. */
  in(delay: Milliseconds): void {
    this.at(performance.now() + delay);
  }

  /** After that delay, if it is not set already. */
  within(delay: Milliseconds): void {
    if (this.#timer === undefined) this.in(delay);
  }

  /** Once that time has come; whatever it was set to before. */
  at(due: Milliseconds): void {
    const wasLater = due < this.#due && this.#timer !== undefined;
    this.#due = due;
    if (wasLater) clearTimeout(this.#timer);
    if (wasLater || this.#timer === undefined) this.#arm();
  }

  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#due = Number.POSITIVE_INFINITY;
  }

  #arm(): void {
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        if (performance.now() < this.#due) this.#arm();
        else this.#run();
      },
      Math.max(1, Math.ceil(this.#due - performance.now())),
    );
    this.#timer.unref();
  }
}
