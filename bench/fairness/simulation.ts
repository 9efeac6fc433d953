// A simulation in virtual time: requests come when the plan says, hold their slots for a while, and what they wait is kept.

import type { Clock, Milliseconds } from "../../src/index.js";
import { turn } from "../measure.js";
import type { Granted, Line } from "../naive.js";
import type { Tuple } from "../workloads.js";

/** Goes on from event to event, in whole milliseconds, without waiting for any. */
export class VirtualTime implements Clock {
  #now = 0;
  readonly #due = new Map<Milliseconds, Set<() => void>>();
  #left = 0;

  now(): Milliseconds {
    return this.#now;
  }

  after(delay: Milliseconds, run: () => void): Disposable {
    const at = this.#now + Math.max(0, Math.ceil(delay));
    const due = this.#due.get(at) ?? new Set();
    this.#due.set(at, due);
    const event = (): void => run();
    due.add(event);
    this.#left++;
    return { [Symbol.dispose]: () => void (due.delete(event) && this.#left--) };
  }

  /** Until nothing is left to happen. Promises settle between two events. */
  async run(): Promise<void> {
    for (; this.#left > 0; this.#now++) {
      const due = this.#due.get(this.#now);
      if (due === undefined) continue;
      for (const event of due) {
        due.delete(event);
        this.#left--;
        event();
        await turn();
      }
      this.#due.delete(this.#now);
    }
  }
}

export interface Arrival {
  readonly at: Milliseconds;
  readonly tuple: Tuple;
  /** How long the connection is open. */
  readonly hold: Milliseconds;
}

export interface Served {
  readonly tuple: Tuple;
  readonly waited: Milliseconds;
  /** When its connection was over. */
  readonly end: Milliseconds;
}

/** All requests, in the order in which they were granted. */
export async function simulate(
  arrivals: readonly Arrival[],
  makeLine: (granted: Granted, time: VirtualTime) => Line,
): Promise<readonly Served[]> {
  const time = new VirtualTime();
  const asked = new Map<Tuple, Arrival[]>();
  const served: Served[] = [];
  const line = makeLine((tuple, release) => {
    // Requests for one tuple are alike, and go first come, first served.
    const arrival = asked.get(tuple)?.shift();
    if (arrival === undefined) throw new Error("Granted what nobody asked for");
    const now = time.now();
    served.push({ tuple, waited: now - arrival.at, end: now + arrival.hold });
    time.after(arrival.hold, release);
  }, time);
  for (const arrival of arrivals) {
    time.after(arrival.at, () => {
      const { tuple } = arrival;
      const others = asked.get(tuple);
      if (others === undefined) asked.set(tuple, [arrival]);
      else others.push(arrival);
      line.ask(tuple);
    });
  }
  await time.run();
  if (served.length < arrivals.length) throw new Error("Somebody still waits");
  return served;
}
