// Virtual time: goes on from event to event, as fast as events can be worked off. Asks no other clock.

import type { Clock, Milliseconds } from "../types.js";

interface Event {
  readonly at: Milliseconds;
  readonly order: number;
  /** Undefined once taken back. */
  run: (() => void) | undefined;
}

/** Of two events at one moment, the one planned first comes first. */
const isBefore = (one: Event, other: Event): boolean =>
  one.at < other.at || (one.at === other.at && one.order < other.order);

/** What is to happen, earliest first: a binary heap, and the clock that stands at the event being worked off. */
export class Agenda implements Clock {
  #now: Milliseconds = 0;
  #planned = 0;
  readonly #heap: Event[] = [];

  now(): Milliseconds {
    return this.#now;
  }

  after(delay: Milliseconds, run: () => void): Disposable {
    return this.at(this.#now + Math.max(0, delay), run);
  }

  at(moment: Milliseconds, run: () => void): Disposable {
    const event: Event = { at: moment, order: this.#planned++, run };
    this.#add(event);
    return {
      [Symbol.dispose]: () => {
        event.run = undefined;
      },
    };
  }

  /** Goes to the next event up to `end` and runs it; without one the clock goes to `end`, and the answer is false. */
  next(end: Milliseconds): boolean {
    for (let first = this.#heap[0]; first !== undefined && first.at <= end; first = this.#heap[0]) {
      this.#removeFirst();
      if (first.run === undefined) continue;
      this.#now = first.at;
      first.run();
      return true;
    }
    if (end !== Number.POSITIVE_INFINITY) this.#now = end;
    return false;
  }

  #add(event: Event): void {
    const heap = this.#heap;
    let index = heap.length;
    while (index > 0) {
      const above = (index - 1) >>> 1;
      const parent = heap[above] as Event;
      if (!isBefore(event, parent)) break;
      heap[index] = parent;
      index = above;
    }
    heap[index] = event;
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop() as Event;
    if (heap.length === 0) return;
    let index = 0;
    for (let below = 1; below < heap.length; below = 2 * index + 1) {
      const right = heap[below + 1];
      if (right !== undefined && isBefore(right, heap[below] as Event)) below++;
      const child = heap[below] as Event;
      if (!isBefore(child, last)) break;
      heap[index] = child;
      index = below;
    }
    heap[index] = last;
  }
}
