// The signals that may end a wait.

import { quietly } from "./quietly.js";

/** Those who wait under one signal: one listener for all of them, however many they are. */
export class Aborts<Waiting> {
  readonly #signal: AbortSignal;
  readonly #waiting = new Set<Waiting>();
  readonly #onAbort: () => void;

  constructor(signal: AbortSignal, abort: (waiting: Waiting, reason: unknown) => void) {
    this.#signal = signal;
    this.#onAbort = () => {
      for (const waiting of this.#waiting) abort(waiting, signal.reason);
    };
  }

  add(waiting: Waiting): void {
    if (this.#waiting.size === 0) this.#signal.addEventListener("abort", this.#onAbort);
    this.#waiting.add(waiting);
  }

  remove(waiting: Waiting): void {
    this.#waiting.delete(waiting);
    if (this.#waiting.size === 0) quietly(() => this.#signal.removeEventListener("abort", this.#onAbort));
  }
}

/** The signals that somebody waits under. */
export class Signals<Waiting> {
  readonly #aborts = new WeakMap<AbortSignal, Aborts<Waiting>>();
  readonly #abort: (waiting: Waiting, reason: unknown) => void;

  constructor(abort: (waiting: Waiting, reason: unknown) => void) {
    this.#abort = abort;
  }

  /** Aborts it with the signal, until it is removed from what this returns. */
  add(signal: AbortSignal, waiting: Waiting): Aborts<Waiting> {
    let aborts = this.#aborts.get(signal);
    if (aborts === undefined) {
      aborts = new Aborts(signal, this.#abort);
      this.#aborts.set(signal, aborts);
    }
    aborts.add(waiting);
    return aborts;
  }
}
