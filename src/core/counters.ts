// The semaphore table: takes one slot of every counter of a plan or none, and gives them back.

import { reachOf } from "../policy/options.js";
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
  /** Whether slots of cluster limits come from a cluster; else this process is all there is of one. */
  readonly #clustered: boolean;
  /** Slots taken out of the reserve and not given back yet. */
  reserveInUse = 0;
  /** Remote counters of which this process gave up slots it held. Whoever tells the cluster empties it. */
  readonly returned: Set<Counter> = new Set();

  constructor(clustered = false) {
    this.#clustered = clustered;
  }

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
    if (plan.queue.length > 0 || this.line.isCutFor(plan)) return "wait";
    for (const counter of plan.counters) {
      // The cluster was not asked yet, but as far as is known it would say yes.
      const isFree = counter.remote && counter.inUse + counter.others < counter.limit;
      if (!isFree && isFullFor(plan, counter)) return "wait";
    }
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
    if (plan.remote) this.#giveUp(plan);
    return this.line.length === 0 ? NOBODY : this.#counted(this.line.handOver(plan));
  }

  /** What others wait for does not stay here. */
  #giveUp(plan: Plan): void {
    for (const counter of plan.counters) if (counter.contended) this.hold(counter, counter.inUse);
  }

  /** This process holds so many slots of a remote counter from now on. */
  hold(counter: Counter, slots: number): void {
    if (slots < counter.open) this.returned.add(counter);
    counter.open = slots;
    if (slots === 0 && counter.references === 0) this.#counters.delete(counter.key);
  }

  /** Hands on what came free of remote counters. Returns the requests admitted by that, their slots taken already. */
  freed(counters: Iterable<Counter>): readonly Request[] {
    return this.#counted(this.line.freed(counters));
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

  /** The counters whose slots come from the cluster. */
  *remotes(): Iterable<Counter> {
    if (this.#clustered) for (const counter of this.#counters.values()) if (counter.remote) yield counter;
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
  refer({ key, limit, ceiling, option }: Claim): Counter {
    let counter = this.#counters.get(key);
    if (counter === undefined) {
      const remote = this.#clustered && reachOf(option) === "cluster";
      counter = new Counter(key, limit, ceiling > limit ? ceiling : 0, remote);
      this.#counters.set(key, counter);
    }
    counter.references++;
    return counter;
  }

  /** One plan less points to it. */
  release(counter: Counter): void {
    counter.references--;
    // Slots of the cluster that nobody needs are remembered until they are given back.
    if (counter.references === 0 && !(counter.remote && counter.open > 0)) this.#counters.delete(counter.key);
  }
}

/** The counters without room for the plan. */
export function fullCounters(plan: Plan): readonly Counter[] {
  return plan.counters.filter((counter) => isFullFor(plan, counter));
}

/** Whether only the cluster can say if one more connection may go. */
export function lacksOnlyRemote(plan: Plan): boolean {
  return plan.queue.length === 0 && plan.counters.every((counter) => counter.remote || !isFullFor(plan, counter));
}
