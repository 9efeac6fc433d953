// The semaphore table: takes one slot of every counter of a plan or none, and gives them back.

import { Line } from "./line.js";
import { Counter, firstFull, hold, isFullFor, isPastLimit, type Plan, type Waiter } from "./plan.js";
import type { Claim } from "./resolve.js";

/** How a target stands: it may go, may go out of the reserve, or has to wait. */
export type Verdict = "go" | "reserve" | "wait";

const NOBODY: readonly never[] = [];

/** The table. It calls nobody back: what a call admits is returned, so no user code runs while counts are half changed. */
export class Counters<Request extends Waiter = Waiter> {
  readonly line: Line<Request> = new Line();
  readonly #counters = new Map<string, Counter>();
  /** Slots taken out of the reserve and not given back yet. */
  reserveInUse = 0;

  /**
   * Takes one slot of every counter of the plan, or changes nothing. Never overtakes the plan's own queue. It decides as
   * `verdict` does, in one pass, as every uncontended `acquire` comes this way.
   */
  take(plan: Plan): Verdict {
    const { counters } = plan;
    if (plan.queue.length > 0 || (this.line.length > 0 && this.line.isCutFor(plan))) return "wait";
    const lowVolume = plan.isLowVolume;
    let reserve = false;
    for (let index = 0; index < counters.length; index++) {
      const counter = counters[index] as Counter;
      if (counter.inUse < counter.open) continue;
      if (!lowVolume || counter.inUse >= counter.ceiling) return "wait";
      reserve = true;
    }
    for (let index = 0; index < counters.length; index++) (counters[index] as Counter).inUse++;
    if (!reserve) return "go";
    this.reserveInUse++;
    return "reserve";
  }

  /** What `take` would answer. */
  verdict(plan: Plan): Verdict {
    if (plan.queue.length > 0 || this.line.isCutFor(plan) || firstFull(plan) !== undefined) return "wait";
    return isPastLimit(plan) ? "reserve" : "go";
  }

  /** Takes the slots whether there is room or not: of a lease that was held when the policy changed. */
  takeAnyway(plan: Plan): { readonly reserve: boolean } {
    const reserve = firstFull(plan) === undefined && isPastLimit(plan);
    hold(plan);
    if (reserve) this.reserveInUse++;
    return { reserve };
  }

  /** Gives the slots of a plan back and hands them on. Returns the requests admitted by that, their slots taken already. */
  drop(plan: Plan, reserve: boolean): readonly Request[] {
    const { counters } = plan;
    for (let index = 0; index < counters.length; index++) (counters[index] as Counter).inUse--;
    if (reserve) this.reserveInUse--;
    return this.line.length === 0 ? NOBODY : this.#counted(this.line.handOver(plan));
  }

  /** Takes a waiting request out. Returns the requests admitted by that. */
  leave(request: Request): readonly Request[] {
    return this.#counted(this.line.leave(request));
  }

  /** Goes on with a hand-over that was cut. Returns the requests admitted by that. */
  resume(): readonly Request[] {
    return this.#counted(this.line.resume());
  }

  #counted(admitted: readonly Request[]): readonly Request[] {
    for (const { reserve } of admitted) if (reserve) this.reserveInUse++;
    return admitted;
  }

  /** Counters that something holds or waits for. */
  *live(): Iterable<Counter> {
    for (const counter of this.#counters.values()) if (counter.inUse > 0 || counter.wanted > 0) yield counter;
  }

  /** The counter of a key, if anything points to it. */
  get(key: string): Counter | undefined {
    return this.#counters.get(key);
  }

  /** The counter of a claim, for one more plan to point to. */
  refer({ key, limit, ceiling }: Claim): Counter {
    let counter = this.#counters.get(key);
    if (counter === undefined) {
      counter = new Counter(key, limit, ceiling > limit ? ceiling : 0);
      this.#counters.set(key, counter);
    }
    counter.references++;
    return counter;
  }

  /** One plan less points to it. */
  release(counter: Counter): void {
    counter.references--;
    if (counter.references === 0) this.#counters.delete(counter.key);
  }
}

/** The counters without room for the plan. */
export function fullCounters(plan: Plan): readonly Counter[] {
  return plan.counters.filter((counter) => isFullFor(plan, counter));
}
