// The timeouts of everything that waits, on one timer of the clock.

import { Heap } from "./heap.js";
import { quietly } from "./quietly.js";
import type { Clock, Milliseconds } from "./types.js";

/** Something whose time may run out. */
export interface Timed {
  readonly timeout: Milliseconds;
  readonly deadline: Milliseconds;
  /** Decides between equal deadlines. */
  readonly order: number;
  /** No longer of interest; it may still be in the heap. */
  readonly settled: boolean;
}

/** Is told whose time has run out, and who cannot be waited for because the clock failed. They are to be `remove`d. */
export interface TimeKeeper<One> {
  expire(due: readonly One[]): void;
  fail(all: readonly One[], error: unknown): void;
}

/**
 * Whoever waits, soonest deadline first, and one timer for the soonest of them. Leaving costs nothing: who has left stays
 * in the heap until he comes to its top, or until those who left are the most of it. INVARIANT: while nobody waits, no
 * timer is armed and nobody is remembered.
 */
export class Deadlines<One extends Timed> {
  readonly #clock: Clock;
  readonly #keeper: TimeKeeper<One>;
  #heap = new Heap<One>(inOrder);
  #waiting = 0;
  #timer: Disposable | undefined;
  /** What the timer is armed for; Infinity while none is. */
  #armedFor = Number.POSITIVE_INFINITY;

  constructor(clock: Clock, keeper: TimeKeeper<One>) {
    this.#clock = clock;
    this.#keeper = keeper;
  }

  /**
   * Waits for one, from now on.
   *
   * @throws what the clock throws; the one must be settled and removed then
   */
  add(one: One): void {
    this.#waiting++;
    this.#heap.add(one);
    if (one.deadline < this.#armedFor) this.#arm(one.deadline, one.timeout);
  }

  /** One of those waited for has been settled. */
  remove(): void {
    this.#waiting--;
    if (this.#waiting === 0) {
      this.#heap = new Heap<One>(inOrder);
      this.#armedFor = Number.POSITIVE_INFINITY;
      disarm(this.#timer);
      this.#timer = undefined;
    } else if (this.#heap.length > 2 * this.#waiting + SPARE) {
      this.#heap = new Heap(inOrder, this.#unsettled());
    }
  }

  #arm(deadline: Milliseconds, delay: Milliseconds): void {
    const timer = this.#timer;
    const armedFor = this.#armedFor;
    this.#timer = undefined;
    this.#armedFor = deadline;
    let armed: Disposable;
    try {
      armed = this.#clock.after(delay, () => this.#fire(deadline));
    } catch (error) {
      this.#timer = timer;
      this.#armedFor = armedFor;
      throw error;
    }
    disarm(timer);
    // A clock may have fired at once.
    if (this.#armedFor === deadline) this.#timer = armed;
    else disarm(armed);
  }

  #fire(deadline: Milliseconds): void {
    if (deadline === this.#armedFor) {
      this.#timer = undefined;
      this.#armedFor = Number.POSITIVE_INFINITY;
    }
    let now = deadline;
    // Timers may come early by a fraction; and a clock that fails has fired all the same.
    quietly(() => {
      now = Math.max(deadline, this.#clock.now());
    });
    const due: One[] = [];
    for (let first = this.#first(); first !== undefined && first.deadline <= now; first = this.#first()) {
      due.push(first);
      this.#heap.removeFirst();
    }
    this.#keeper.expire(due);
    const next = this.#first();
    if (next === undefined || next.deadline >= this.#armedFor) return;
    try {
      this.#arm(next.deadline, next.deadline - now);
    } catch (error) {
      this.#keeper.fail(this.#unsettled(), error);
    }
  }

  /** The one with the soonest deadline. */
  #first(): One | undefined {
    while (this.#heap.first?.settled) this.#heap.removeFirst();
    return this.#heap.first;
  }

  #unsettled(): One[] {
    return [...this.#heap].filter(({ settled }) => !settled);
  }
}

/** Settled ones kept at the least, so that a short line is not tidied all the time. */
const SPARE = 64;

function disarm(timer: Disposable | undefined): void {
  if (timer !== undefined) quietly(() => timer[Symbol.dispose]());
}

const inOrder = (a: Timed, b: Timed): number => a.deadline - b.deadline || a.order - b.order;
