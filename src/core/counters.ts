// The semaphore table: takes one slot of every counter of a plan or none, and hands freed slots to whoever is next.

import { type Linked, Roll } from "./line.js";
import type { Claim } from "./resolve.js";
import type { NormalTarget } from "./target.js";

/** The slots of one key. */
export class Counter {
  readonly key: string;
  readonly limit: number;
  /** The limit, and on top of it the reserve where that applies. */
  readonly ceiling: number;
  inUse = 0;
  /** Waiting requests that claim it, whether it holds them up or another counter does. */
  wanted = 0;
  /** Whether it is in the table: only while something holds it or waits. */
  live = false;
  /** Queues waiting for a slot of it: they take turns, the first is tried next. */
  parked: Roll<Plan> | undefined;
  /** Such queues that the reserve would let past: when parked, their binding had no connection to their domain. */
  lowVolume: Roll<Plan> | undefined;
  /** Of the counter of a binding and a domain: the plans of its hosts that have requests waiting. */
  plans: Set<Plan> | undefined;

  constructor({ key, limit, ceiling }: Claim) {
    this.key = key;
    this.limit = limit;
    this.ceiling = ceiling;
  }
}

/** A request that waits. The shell adds what it needs to tell the caller. */
export class Waiter implements Linked<Waiter> {
  plan: Plan;
  /** When it began to wait. */
  readonly since: number;
  /** Once admitted: whether it went out of the reserve. */
  reserve = false;
  before: Waiter | undefined;
  after: Waiter | undefined;

  constructor(plan: Plan, since: number) {
    this.plan = plan;
    this.since = since;
  }
}

/** A resolved target with its counters, and the queue of the requests for it: first come, first served. */
export class Plan implements Linked<Plan> {
  /** Equal for equal targets. */
  readonly key: string;
  readonly target: NormalTarget;
  readonly claims: readonly Claim[];
  /** One for each claim; the first counts the connections of the binding to the domain. */
  readonly counters: Counter[];
  readonly queue: Roll<Waiter> = new Roll();
  /** The counter its queue waits for. INVARIANT: while the queue is not empty, this counter has no room for it. */
  parkedOn: Counter | undefined;
  /** The roll of that counter it stands on. */
  roll: Roll<Plan> | undefined;
  before: Plan | undefined;
  after: Plan | undefined;

  constructor(key: string, target: NormalTarget, claims: readonly Claim[]) {
    this.key = key;
    this.target = target;
    this.claims = claims;
    this.counters = claims.map((claim) => new Counter(claim));
  }
}

/** How a target stands: it may go, may go out of the reserve, or has to wait. */
export type Verdict = "go" | "reserve" | "wait";

const NOBODY: readonly never[] = [];

/** The table. It calls nobody back: what a release admits is returned, so no user code runs while counts are half changed. */
export class Counters<Request extends Waiter = Waiter> {
  readonly #live = new Map<string, Counter>();
  /** The plans with requests waiting, by key. Two plans of one target must never both have a queue. */
  readonly waitingPlans: Map<string, Plan> = new Map();
  /** Requests waiting. */
  waiting = 0;
  /** Slots taken out of the reserve and not given back yet. */
  reserveInUse = 0;

  /** Counters that something holds or waits for. */
  live(): Iterable<Counter> {
    return this.#live.values();
  }

  /** What `take` would answer. */
  verdict(plan: Plan): Verdict {
    if (plan.queue.length > 0 || this.#fullFor(plan) !== undefined) return "wait";
    return this.#pastLimit(plan) ? "reserve" : "go";
  }

  /** Takes one slot of every counter of the plan, or changes nothing. Never overtakes the plan's own queue. */
  take(plan: Plan): Verdict {
    const verdict = this.verdict(plan);
    if (verdict !== "wait") this.#hold(plan, verdict === "reserve");
    return verdict;
  }

  /** Takes the slots whether there is room or not: of a lease that was held when the policy changed. */
  takeAnyway(plan: Plan): { readonly reserve: boolean } {
    const reserve = this.#fullFor(plan) === undefined && this.#pastLimit(plan);
    this.#hold(plan, reserve);
    return { reserve };
  }

  /** Puts a request that could not be admitted at the end of its queue. */
  wait(request: Request): void {
    const { plan } = request;
    const full = this.#fullFor(plan);
    plan.queue.add(request);
    this.waiting++;
    for (const counter of plan.counters) {
      this.#enliven(counter);
      counter.wanted++;
    }
    if (plan.queue.length > 1 || full === undefined) return;
    this.waitingPlans.set(plan.key, plan);
    const pair = pairOf(plan);
    pair.plans ??= new Set();
    pair.plans.add(plan);
    park(plan, full);
  }

  /** Takes a waiting request out. It held nothing, so nobody else can go because of it. */
  leave(request: Request): void {
    this.#unqueue(request);
    this.#settle(request.plan);
  }

  /** Gives the slots of a plan back and hands them on. Returns the requests admitted by that, their slots taken already. */
  drop(plan: Plan, reserve: boolean): readonly Request[] {
    for (const counter of plan.counters) counter.inUse--;
    if (reserve) this.reserveInUse--;
    const admitted = this.waiting === 0 ? NOBODY : this.#handOver(plan);
    this.#settle(plan);
    return admitted;
  }

  /** Tells the counters that have no room for the plan. */
  isFullFor(plan: Plan): (counter: Counter) => boolean {
    const lowVolume = isLowVolume(plan);
    return ({ inUse, limit, ceiling }) => inUse >= (lowVolume ? ceiling : limit);
  }

  /** The counters of a plan. One that left the table while nothing held it may have come back under another plan. */
  countersOf(plan: Plan): readonly Counter[] {
    const { counters } = plan;
    for (let index = 0; index < counters.length; index++) {
      const counter = counters[index] as Counter;
      if (!counter.live) counters[index] = this.#live.get(counter.key) ?? counter;
    }
    return counters;
  }

  /** The first counter without room for the plan. A target without a connection may use the reserve. */
  #fullFor(plan: Plan): Counter | undefined {
    const counters = this.countersOf(plan);
    const lowVolume = isLowVolume(plan);
    for (const counter of counters) {
      if (counter.inUse >= (lowVolume ? counter.ceiling : counter.limit)) return counter;
    }
    return undefined;
  }

  /** Whether one more takes some counter past its limit, into the reserve. */
  #pastLimit(plan: Plan): boolean {
    for (const counter of plan.counters) if (counter.inUse >= counter.limit) return true;
    return false;
  }

  #hold(plan: Plan, reserve: boolean): void {
    for (const counter of plan.counters) {
      this.#enliven(counter);
      counter.inUse++;
    }
    if (reserve) this.reserveInUse++;
  }

  #handOver(plan: Plan): readonly Request[] {
    const admitted: Request[] = [];
    const pair = pairOf(plan);
    if (pair.inUse === 0 && pair.plans !== undefined) {
      // The last connection of the binding to the domain is gone: what waits there may use the reserve again.
      for (const waiting of pair.plans) if (waiting.parkedOn !== undefined) park(waiting, waiting.parkedOn);
    }
    for (const counter of plan.counters) this.#drain(counter, admitted);
    return admitted;
  }

  /** Serves the queues parked on a counter in turn, one slot each, until it is full or nobody is left. */
  #drain(counter: Counter, admitted: Request[]): void {
    for (let plan = nextOn(counter); plan !== undefined; plan = nextOn(counter)) {
      const full = this.#fullFor(plan);
      if (full === undefined) {
        admitted.push(this.#admit(plan));
        if (plan.queue.length > 0) park(plan, counter);
      } else {
        park(plan, full);
      }
    }
  }

  #admit(plan: Plan): Request {
    // INVARIANT: a plan on a roll has requests waiting, and all of them came through `wait`.
    const request = plan.queue.first as Request;
    request.reserve = this.#pastLimit(plan);
    this.#hold(plan, request.reserve);
    this.#unqueue(request);
    return request;
  }

  #unqueue(request: Request): void {
    const { plan } = request;
    plan.queue.remove(request);
    this.waiting--;
    for (const counter of plan.counters) counter.wanted--;
    if (plan.queue.length > 0) return;
    plan.roll?.remove(plan);
    plan.roll = undefined;
    plan.parkedOn = undefined;
    this.waitingPlans.delete(plan.key);
    pairOf(plan).plans?.delete(plan);
  }

  #enliven(counter: Counter): void {
    if (counter.live) return;
    counter.live = true;
    this.#live.set(counter.key, counter);
  }

  #settle(plan: Plan): void {
    for (const counter of plan.counters) {
      if (counter.inUse > 0 || counter.wanted > 0) continue;
      counter.live = false;
      this.#live.delete(counter.key);
    }
  }
}

/** The counter of the binding's connections to the domain. */
function pairOf(plan: Plan): Counter {
  return plan.counters[0] as Counter;
}

function isLowVolume(plan: Plan): boolean {
  return pairOf(plan).inUse === 0;
}

function park(plan: Plan, counter: Counter): void {
  plan.roll?.remove(plan);
  plan.parkedOn = counter;
  if (counter.ceiling > counter.limit && isLowVolume(plan)) {
    counter.lowVolume ??= new Roll();
    plan.roll = counter.lowVolume;
  } else {
    counter.parked ??= new Roll();
    plan.roll = counter.parked;
  }
  plan.roll.add(plan);
}

/** The next queue that has room in this counter. */
function nextOn(counter: Counter): Plan | undefined {
  if (counter.inUse < counter.limit) return counter.lowVolume?.first ?? counter.parked?.first;
  while (counter.inUse < counter.ceiling) {
    const plan = counter.lowVolume?.first;
    if (plan === undefined || isLowVolume(plan)) return plan;
    // Another host of the same domain was admitted since it was parked.
    park(plan, counter);
  }
  return undefined;
}
