// A clock that stands still until a test moves it, and knows which timers are still armed.
import type { Clock, Milliseconds } from "../../src/index.js";

interface Timer {
  readonly due: Milliseconds;
  readonly run: () => void;
}

/** More timers than this within one `advance` is a timer that arms itself again without end. */
const RUNAWAY = 100_000;

export class VirtualClock implements Clock {
  #now: Milliseconds;
  /** In the order they were armed, which breaks ties between timers due at the same instant. */
  readonly #timers = new Set<Timer>();

  /** Not from 0, so that an instant taken for a duration shows. */
  constructor(now: Milliseconds = 1_000_000) {
    this.#now = now;
  }

  now(): Milliseconds {
    return this.#now;
  }

  after(delay: Milliseconds, run: () => void): Disposable {
    if (!(delay >= 0)) throw new RangeError(`Cannot arm a timer: the delay is ${String(delay)}`);
    const timer: Timer = { due: this.#now + delay, run };
    this.#timers.add(timer);
    return { [Symbol.dispose]: () => void this.#timers.delete(timer) };
  }

  /** Timers armed and neither run nor disposed of. */
  get armed(): number {
    return this.#timers.size;
  }

  /** Moves time on and runs, at its own instant, each timer that comes due on the way, new ones included. */
  advance(by: Milliseconds): void {
    const end = this.#now + by;
    for (let ran = 0; ran <= RUNAWAY; ran++) {
      const next = this.#earliest();
      if (next === undefined || next.due > end) {
        this.#now = end;
        return;
      }
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.due);
      next.run();
    }
    throw new Error(`More than ${String(RUNAWAY)} timers ran within ${String(by)} ms`);
  }

  #earliest(): Timer | undefined {
    let earliest: Timer | undefined;
    for (const timer of this.#timers) {
      if (earliest === undefined || timer.due < earliest.due) earliest = timer;
    }
    return earliest;
  }
}
