// Virtual time: goes on from event to event, as fast as events can be worked off. Asks no other clock.

import { Heap } from "../heap.js";
import type { Clock, Milliseconds } from "../types.js";

interface Event {
  readonly at: Milliseconds;
  readonly order: number;
  /** Undefined once taken back. */
  run: (() => void) | undefined;
}

/** Of two events at one moment, the one planned first comes first. */
const inOrder = (one: Event, other: Event): number => one.at - other.at || one.order - other.order;

/** What is to happen, earliest first, and the clock that stands at the event being worked off. */
export class Agenda implements Clock {
  #now: Milliseconds = 0;
  #planned = 0;
  readonly #events = new Heap<Event>(inOrder);

  now(): Milliseconds {
    return this.#now;
  }

  after(delay: Milliseconds, run: () => void): Disposable {
    return this.at(this.#now + Math.max(0, delay), run);
  }

  at(moment: Milliseconds, run: () => void): Disposable {
    const event: Event = { at: moment, order: this.#planned++, run };
    this.#events.add(event);
    return {
      [Symbol.dispose]: () => {
        event.run = undefined;
      },
    };
  }

  /** Goes to the next event up to `end` and runs it; without one the clock goes to `end`, and the answer is false. */
  next(end: Milliseconds): boolean {
    for (let first = this.#events.first; first !== undefined && first.at <= end; first = this.#events.first) {
      this.#events.removeFirst();
      if (first.run === undefined) continue;
      this.#now = first.at;
      first.run();
      return true;
    }
    if (end !== Number.POSITIVE_INFINITY) this.#now = end;
    return false;
  }
}
