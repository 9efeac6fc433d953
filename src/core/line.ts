// The waiting line: who goes next when a slot comes free, fairly, in bounded steps, and nobody for ever passed over.

import { type Counter, firstFull, hold, isFullFor, isPastLimit, type Plan, type Waiter, Waiting } from "./plan.js";

/**
 * How it works. The requests of one target are a queue. A queue stands on the roll of *one* counter that is full for it.
 * When slots of a counter come free, the first queue of its roll is tried: it has room everywhere and its first request
 * is admitted, then it goes to the end of a roll, so that queues take turns; or another counter is full, and the queue
 * moves to the roll of that one.
 *
 * Moving can go on for ever for a queue that needs two busy counters which never have room together. So it is counted,
 * and a queue passed over too often becomes the keeper: it keeps single slots as they come free until it has all. There
 * is one keeper at a time, so two never wait for each other's slots. Counters that the reserve applies to are not kept:
 * every release frees them, and the keeper is asked first there. Nor are slots of the cluster: keepers of two processes
 * would wait for each other.
 *
 * INVARIANT: after every call, no waiting queue has room in all of its counters, but for queues on counters whose
 * hand-over was cut; `isCut` says that there are some, and `resume` goes on.
 */
export class Line<Request extends Waiter = Waiter> {
  /** Requests waiting. */
  length = 0;
  /** The plans whose queues they are in. */
  readonly plans: Set<Plan> = new Set();
  /** Plans with requests waiting, by the counter of their binding and domain. */
  readonly #byPair = new Map<Counter, Set<Plan>>();
  readonly #cut = new Set<Counter>();
  /** Plans passed over too often, oldest first; the first is the keeper. */
  readonly #starved = new Set<Plan>();
  #keeper: Plan | undefined;
  readonly #kept: Counter[] = [];
  #movesLeft = 0;
  /** Remote counters that queues were parked on. Whoever asks the cluster takes out those that nobody waits for any more. */
  readonly pressed: Set<Counter> = new Set();
  /** Counters that somebody waits for and idle connections have slots of. Whoever asks those to end empties it. */
  readonly idle: Set<Counter> = new Set();

  /** Whether a hand-over was cut short. */
  get isCut(): boolean {
    return this.#cut.size > 0;
  }

  /** Whether a newcomer has to queue behind a hand-over that was cut. */
  isCutFor(plan: Plan): boolean {
    return this.isCut && plan.counters.some((counter) => this.#cut.has(counter));
  }

  /** Puts a request that could not be admitted at the end of its queue. */
  join(request: Request): void {
    const { plan } = request;
    plan.queue.add(request);
    request.waits = true;
    this.length++;
    for (const counter of plan.counters) counter.wanted++;
    if (plan.queue.length > 1) {
      if (plan.parkedOn !== undefined && plan.parkedOn.idle > 0) this.idle.add(plan.parkedOn);
      return;
    }
    this.plans.add(plan);
    this.#ofPair(plan.pair).add(plan);
    this.#park(plan, firstFull(plan) ?? plan.counters.find((counter) => this.#cut.has(counter)) ?? plan.pair);
  }

  /** Takes a waiting request out. Returns who can go because of it: only the keeper had anything to give back. */
  leave(request: Request): readonly Request[] {
    const { plan } = request;
    const wasFirst = plan.queue.first === request;
    this.#unqueue(request);
    if (!wasFirst || !this.#starved.has(plan)) return NOBODY;
    return this.#handing((admitted) => this.#forget(plan, admitted));
  }

  /** Takes all waiting requests out; nobody is admitted because of that. Returns them. */
  clear(): readonly Request[] {
    const requests = [...this.plans].flatMap(({ queue }) => [...queue] as Request[]);
    this.#giveUpKept();
    this.#keeper = undefined;
    this.#starved.clear();
    this.#cut.clear();
    for (const request of requests) {
      request.plan.passedOver = 0;
      request.waitedFor = request.plan.parkedOn;
      this.#unqueue(request);
    }
    return requests;
  }

  /** Hands on what the plan just gave back. Returns the requests admitted, their slots taken already. */
  handOver(plan: Plan): readonly Request[] {
    return this.#handing((admitted) => {
      if (plan.isLowVolume) this.#becameLowVolume(plan.pair);
      // The last first, as a queue stands on the first that is full for it: else those on an earlier one would take the
      // slots of a later one as well, for ever past whoever waits there.
      for (let at = plan.counters.length - 1; at >= 0; at--) this.#serve(plan.counters[at] as Counter, admitted);
    });
  }

  /** Goes on with what was cut. */
  resume(): readonly Request[] {
    return this.#handing((admitted) => {
      for (const counter of [...this.#cut]) {
        this.#cut.delete(counter);
        this.#serve(counter, admitted);
      }
    });
  }

  /** Hands on what came free of some counters. */
  freed(counters: Iterable<Counter>): readonly Request[] {
    return this.#handing((admitted) => {
      for (const counter of counters) this.#serve(counter, admitted);
    });
  }

  #handing(work: (admitted: Request[]) => void): readonly Request[] {
    const admitted: Request[] = [];
    this.#movesLeft = MOST_MOVES;
    work(admitted);
    return admitted;
  }

  /** The last connection of a binding to a domain is gone: what waits there may use the reserve again. */
  #becameLowVolume(pair: Counter): void {
    for (const plan of this.#byPair.get(pair) ?? []) {
      const { parkedOn } = plan;
      // Only where it changes something: whoever is parked anew has lost its turn.
      if (parkedOn !== undefined && parkedOn.ceiling > 0 && plan.roll === parkedOn.waiting?.parked)
        this.#park(plan, parkedOn);
    }
  }

  /** Serves the queues on a counter in turn, one slot each, until it is full, nobody is left, or the moves are used up. */
  #serve(counter: Counter, admitted: Request[]): void {
    if (this.#keeper !== undefined) this.#serveKeeper(this.#keeper, counter, admitted);
    for (let plan = this.#nextOn(counter); plan !== undefined; plan = this.#nextOn(counter)) {
      if (this.#movesLeft === 0) {
        this.#cut.add(counter);
        return;
      }
      this.#movesLeft--;
      const full = firstFull(plan);
      if (full === undefined) this.#admit(plan, counter, admitted);
      else this.#passOver(plan, full, admitted);
    }
  }

  /** The next queue that has room in this counter. */
  #nextOn(counter: Counter): Plan | undefined {
    const { waiting } = counter;
    if (waiting === undefined) return undefined;
    // The others have the reserve as well, and it is their turn next.
    if (counter.inUse < counter.open) return waiting.parked.first ?? waiting.lowVolume.first;
    while (counter.inUse < counter.ceiling) {
      const plan = waiting.lowVolume.first;
      if (plan === undefined || plan.isLowVolume) return plan;
      // Another host of the same domain was admitted since it was parked.
      this.#park(plan, counter);
    }
    return undefined;
  }

  /** Admits the first request of a plan. The rest of its queue waits for what is full now, or on for `counter`. */
  #admit(plan: Plan, counter: Counter, admitted: Request[]): void {
    // INVARIANT: a plan on a roll has requests waiting, and all of them came through `join`.
    const request = plan.queue.first as Request;
    request.reserve = isPastLimit(plan);
    request.waitedFor = counter;
    hold(plan);
    this.#unqueue(request);
    admitted.push(request);
    if (plan.queue.length > 0) {
      // Behind the other hosts of its domain, too.
      const ofPair = this.#ofPair(plan.pair);
      ofPair.delete(plan);
      ofPair.add(plan);
      this.#park(plan, firstFull(plan) ?? counter);
    }
    this.#forget(plan, admitted);
  }

  #passOver(plan: Plan, full: Counter, admitted: Request[]): void {
    this.#park(plan, full);
    plan.passedOver++;
    if (plan.passedOver < MOST_PASSES || this.#starved.has(plan)) return;
    this.#starved.add(plan);
    if (this.#keeper === undefined) this.#promote(admitted);
  }

  /** Makes the plan that starves longest the keeper: it takes at once what is free. */
  #promote(admitted: Request[]): void {
    for (const plan of this.#starved) {
      this.#keeper = plan;
      for (const counter of plan.counters) this.#keep(plan, counter);
      this.#complete(plan, admitted);
      return;
    }
  }

  #serveKeeper(plan: Plan, counter: Counter, admitted: Request[]): void {
    if (!plan.counters.includes(counter)) return;
    this.#keep(plan, counter);
    this.#complete(plan, admitted);
  }

  /** Keeps a free slot, for nobody else to take. */
  #keep(plan: Plan, counter: Counter): void {
    if (counter.ceiling > 0 || counter.remote || this.#kept.includes(counter) || isFullFor(plan, counter)) return;
    counter.open--;
    this.#kept.push(counter);
  }

  /** Admits the keeper if it lacks nothing; else it waits for what it lacks. */
  #complete(plan: Plan, admitted: Request[]): void {
    const lacks = plan.counters.find((counter) => !this.#kept.includes(counter) && isFullFor(plan, counter));
    if (lacks !== undefined) {
      if (plan.parkedOn !== lacks) this.#park(plan, lacks);
      return;
    }
    this.#giveUpKept();
    const waitedOn = plan.parkedOn ?? plan.pair;
    this.#admit(plan, waitedOn, admitted);
    // What it waited on may still have room: it is not always the counter being served.
    if (plan.queue.length > 0) this.#serve(waitedOn, admitted);
  }

  /** A plan was served, or its first request left: it is passed over no longer, and keeps nothing. */
  #forget(plan: Plan, admitted: Request[]): void {
    plan.passedOver = 0;
    if (!this.#starved.delete(plan) || this.#keeper !== plan) return;
    this.#keeper = undefined;
    const kept = this.#giveUpKept();
    this.#promote(admitted);
    for (const counter of kept) this.#serve(counter, admitted);
  }

  /** Lets everybody have what was kept. Returns the counters it was kept of. */
  #giveUpKept(): readonly Counter[] {
    const kept = this.#kept.splice(0);
    for (const counter of kept) counter.open++;
    return kept;
  }

  #unqueue(request: Request): void {
    const { plan } = request;
    plan.queue.remove(request);
    request.waits = false;
    this.length--;
    for (const counter of plan.counters) counter.wanted--;
    if (plan.queue.length > 0) return;
    plan.roll?.remove(plan);
    plan.roll = undefined;
    plan.parkedOn = undefined;
    this.plans.delete(plan);
    const ofPair = this.#ofPair(plan.pair);
    ofPair.delete(plan);
    if (ofPair.size === 0) this.#byPair.delete(plan.pair);
  }

  #ofPair(pair: Counter): Set<Plan> {
    let plans = this.#byPair.get(pair);
    if (plans === undefined) {
      plans = new Set();
      this.#byPair.set(pair, plans);
    }
    return plans;
  }

  #park(plan: Plan, counter: Counter): void {
    plan.roll?.remove(plan);
    plan.parkedOn = counter;
    if (counter.remote) this.pressed.add(counter);
    if (counter.idle > 0) this.idle.add(counter);
    counter.waiting ??= new Waiting();
    plan.roll = counter.ceiling > 0 && plan.isLowVolume ? counter.waiting.lowVolume : counter.waiting.parked;
    plan.roll.add(plan);
  }
}

/** Queues tried in one call. The rest of a hand-over waits for `resume`, so that no single release takes long. */
const MOST_MOVES = 64;
/** Times a queue may have a slot within reach and not the others it needs. */
const MOST_PASSES = 16;
const NOBODY: readonly never[] = [];
