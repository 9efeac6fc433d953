// What the table is made of: counters, and plans, which are resolved targets with their counters and their queue.

import { type Linked, Roll } from "./roll.js";
import type { NormalTarget } from "./target.js";

/** Queues waiting for a slot of one counter. */
export class Waiting {
  /** They take turns: the first is tried next. */
  readonly parked: Roll<Plan> = new Roll();
  /** The ones the reserve would let past: when parked, their binding had no connection to their domain. */
  readonly lowVolume: Roll<Plan> = new Roll();
}

/** The slots of one key. */
export class Counter {
  readonly key: string;
  readonly limit: number;
  /** Slots anybody may take: the limit, less one that is kept for a request passed over too often; see `remote`. */
  open: number;
  /** Whether its slots come from the cluster: then `open` is how many of them this process holds. */
  readonly remote: boolean;
  /** Remote: slots that other processes hold, as last told. */
  others = 0;
  /** Remote: other processes wait for it, as last told. */
  awaited = false;
  /** Remote: a slot that comes free goes back, as others wait for it or asking for it again costs nothing. */
  contended = false;
  /** How far low-volume targets may go, where the reserve applies; 0 where it does not. */
  readonly ceiling: number;
  inUse = 0;
  /** Leases that hold a slot and could be asked to give it up, as their connection is idle. */
  idle = 0;
  /** Waiting requests that claim it, whether it holds them up or another counter does. */
  wanted = 0;
  /** Plans that point to it. It leaves the table with the last of them. */
  references = 0;
  waiting: Waiting | undefined = undefined;

  constructor(key: string, limit: number, ceiling: number, remote = false) {
    this.key = key;
    this.limit = limit;
    this.open = remote ? 0 : limit;
    this.ceiling = ceiling;
    this.remote = remote;
  }
}

/** A request that waits. The shell adds what it needs to tell the caller. */
export class Waiter implements Linked<Waiter> {
  plan: Plan;
  /** When it began to wait. */
  readonly since: number;
  /** Whether it is in its plan's queue. */
  waits = false;
  /** Once admitted: whether it went out of the reserve. */
  reserve = false;
  /** Once admitted: the counter it waited for last. */
  waitedFor: Counter | undefined = undefined;
  before: Waiter | undefined = undefined;
  after: Waiter | undefined = undefined;

  constructor(plan: Plan, since: number) {
    this.plan = plan;
    this.since = since;
  }
}

/** A resolved target with its counters, and the queue of the requests for it: first come, first served. */
export class Plan implements Linked<Plan> {
  readonly target: NormalTarget;
  /**
   * INVARIANT: the first counts the connections of the binding to the domain, whether they are limited or not. Those
   * with a ceiling come after the others: a queue waits for them where nothing of its own is full. Remote ones come last:
   * the cluster is asked for a slot only where there is room here.
   */
  readonly counters: readonly Counter[];
  /** The counter of the binding's connections to the domain. */
  readonly pair: Counter;
  /** Whether some of them are remote. */
  readonly remote: boolean;
  readonly queue: Roll<Waiter> = new Roll();
  /** INVARIANT: while the queue is not empty, this counter has no room for it, or its hand-over is not finished. */
  parkedOn: Counter | undefined = undefined;
  /** The roll of that counter it stands on. */
  roll: Roll<Plan> | undefined = undefined;
  before: Plan | undefined = undefined;
  after: Plan | undefined = undefined;
  /** How often its first request had a slot to take and another counter was full. */
  passedOver = 0;
  /** Asked for since the cache last looked. */
  recent = true;

  constructor(target: NormalTarget, counters: readonly Counter[], pair: Counter = counters[0] as Counter) {
    this.target = target;
    this.counters = counters;
    this.pair = pair;
    this.remote = counters.some((counter) => counter.remote);
  }

  /** Whether the binding has no connection to the domain, so that the reserve is open to it. */
  get isLowVolume(): boolean {
    return this.pair.inUse === 0;
  }
}

/** A plan of the counters that `plan` has and `other` has not. */
export function withoutThoseOf(plan: Plan, other: Plan): Plan {
  const counters = plan.counters.filter((counter) => !other.counters.includes(counter));
  return new Plan(plan.target, counters, plan.pair);
}

/** Whether a counter has no room for a plan. */
export function isFullFor(plan: Plan, counter: Counter): boolean {
  return counter.inUse >= counter.open && !(counter.inUse < counter.ceiling && plan.isLowVolume);
}

/** The first counter without room for the plan. */
export function firstFull(plan: Plan): Counter | undefined {
  for (const counter of plan.counters) if (isFullFor(plan, counter)) return counter;
  return undefined;
}

/** Whether one more connection takes some counter past its limit, into the reserve. */
export function isPastLimit(plan: Plan): boolean {
  for (const counter of plan.counters) if (counter.inUse >= counter.limit) return true;
  return false;
}

/** Takes one slot of every counter. */
export function hold(plan: Plan): void {
  for (const counter of plan.counters) counter.inUse++;
}

/** Slots held above the limit, as it was lowered since. */
export function surplusOf({ inUse, others, limit, ceiling }: Counter): number {
  return Math.max(0, inUse + others - Math.max(limit, ceiling));
}
