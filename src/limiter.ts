// createLimiter: promises, timers and signals around the table of counters.

import debug from "debug";
import { systemClock } from "./clock.js";
import { Counters, fullCounters } from "./core/counters.js";
import { explain, explainLimits, oldestWaits, stateOf } from "./core/explain.js";
import { Matcher } from "./core/match.js";
import { type Plan, Waiter } from "./core/plan.js";
import { Plans } from "./core/plans.js";
import { reserveOf, type Scopes, scopesOf } from "./core/resolve.js";
import { Roll } from "./core/roll.js";
import { describeTarget, type NormalTarget, normalTarget, regroup } from "./core/target.js";
import { AcquireTimeoutError, LimiterClosedError, QueueFullError } from "./errors.js";
import { HeldLease, type Lessor } from "./lease.js";
import { dataOf, type PolicyData } from "./policy/policy.js";
import type {
  AcquireOptions,
  Clock,
  CounterState,
  Explanation,
  Lease,
  LeaseInfo,
  LimiterOptions,
  LocalLimiter,
  Milliseconds,
  Policy,
  Snapshot,
  Target,
} from "./types.js";

const log = debug("outbound-limiter:limiter");

/**
 * Makes a limiter that enforces a policy in this process. Opens nothing and starts no timer until something waits.
 *
 * @param policy from `parsePolicy`, `loadPolicy` or `definePolicy`; one policy may serve many limiters
 * @param options `maxWaiting`, `matchCacheSize`, `clock`
 * @throws {TypeError} not a policy, or an option that does not exist or has the wrong type
 * @throws {RangeError} an option out of range
 * @example
 * const limiter = createLimiter(parsePolicy("max_outbound_connections = 20"));
 */
export function createLimiter(policy: Policy, options: LimiterOptions = {}): LocalLimiter {
  const { maxWaiting = 100_000, matchCacheSize = 16_384, clock = systemClock, ...others } = options;
  for (const [name, value] of Object.entries(others)) {
    if (value !== undefined) throw new TypeError(`Unknown limiter option ${name}`);
  }
  checkCount("maxWaiting", maxWaiting, 0);
  if (matchCacheSize === Number.POSITIVE_INFINITY) {
    throw new RangeError("Limiter option matchCacheSize must be finite: names come from the internet");
  }
  checkCount("matchCacheSize", matchCacheSize, 1);
  if (typeof clock?.now !== "function" || typeof clock.after !== "function") {
    throw new TypeError("Limiter option clock must have the functions now and after");
  }
  return new OutboundLimiter(policy, { maxWaiting, matchCacheSize, clock });
}

function checkCount(name: string, value: unknown, least: number): void {
  if (typeof value !== "number") throw new TypeError(`Limiter option ${name} must be a number, not ${typeof value}`);
  if (value !== Number.POSITIVE_INFINITY && (!Number.isSafeInteger(value) || value < least)) {
    throw new RangeError(`Limiter option ${name} must be a whole number from ${least}, not ${value}`);
  }
}

function checkTimeout(timeout: unknown): Milliseconds {
  if (timeout === undefined) return Number.POSITIVE_INFINITY;
  if (typeof timeout !== "number")
    throw new TypeError(`Option timeout must be a number of milliseconds, not ${typeof timeout}`);
  if (!(timeout >= 0)) throw new RangeError(`Option timeout must be 0 ms or more, not ${timeout}`);
  return timeout;
}

/** A request with what its caller waits for. */
class Request extends Waiter {
  readonly target: Target;
  readonly order: number;
  readonly resolve: (lease: Lease) => void;
  readonly reject: (reason: unknown) => void;
  timer: Disposable | undefined;
  aborts: Aborts | undefined;
  /** Admitted or gone. A clock that cannot take a timer back must not end it a second time. */
  settled = false;

  constructor(
    plan: Plan,
    since: Milliseconds,
    order: number,
    target: Target,
    resolve: (lease: Lease) => void,
    reject: (reason: unknown) => void,
  ) {
    super(plan, since);
    this.order = order;
    this.target = target;
    this.resolve = resolve;
    this.reject = reject;
  }

  /** Its caller gets an answer; timer and signal are let go. Never throws, whatever the caller's clock or signal does. */
  settle(): void {
    const { timer, aborts } = this;
    this.settled = true;
    this.timer = undefined;
    this.aborts = undefined;
    if (timer !== undefined) quietly(() => timer[Symbol.dispose]());
    aborts?.remove(this);
  }
}

/** The requests that wait under one signal: one listener for all of them, however many they are. */
class Aborts {
  readonly #signal: AbortSignal;
  readonly #requests = new Set<Request>();
  readonly #onAbort: () => void;

  constructor(signal: AbortSignal, abort: (request: Request) => void) {
    this.#signal = signal;
    this.#onAbort = () => {
      for (const request of this.#requests) abort(request);
    };
  }

  add(request: Request): void {
    if (this.#requests.size === 0) this.#signal.addEventListener("abort", this.#onAbort);
    this.#requests.add(request);
  }

  remove(request: Request): void {
    this.#requests.delete(request);
    if (this.#requests.size === 0) quietly(() => this.#signal.removeEventListener("abort", this.#onAbort));
  }
}

function quietly(call: () => void): void {
  try {
    call();
  } catch (error) {
    log("a caller's clock or signal failed: %o", error);
  }
}

/** What follows from one policy: its matches, its plans, its counters. Replaced as a whole by another policy. */
class Table {
  readonly policy: Policy;
  readonly data: PolicyData;
  readonly counters: Counters<Request> = new Counters<Request>();
  readonly plans: Plans;
  readonly #matcher: Matcher;

  constructor(policy: Policy, cacheSize: number) {
    this.policy = policy;
    this.data = dataOf(policy);
    this.#matcher = new Matcher(cacheSize);
    this.plans = new Plans(this.data, this.counters, this.#matcher, cacheSize);
  }

  scopes(target: NormalTarget): Scopes {
    return scopesOf(this.data, target, this.#matcher);
  }
}

class OutboundLimiter implements LocalLimiter, Lessor {
  readonly #maxWaiting: number;
  readonly #cacheSize: number;
  readonly #clock: Clock;
  readonly #held = new Roll<HeldLease>();
  readonly #aborts = new WeakMap<AbortSignal, Aborts>();
  #table: Table;
  #closed = false;
  #lastNow = 0;
  #resuming = false;
  #requests = 0;
  readonly #onEmpty = new Set<() => void>();

  constructor(policy: Policy, options: Required<LimiterOptions>) {
    this.#maxWaiting = options.maxWaiting;
    this.#cacheSize = options.matchCacheSize;
    this.#clock = options.clock;
    this.#table = new Table(policy, this.#cacheSize);
  }

  async acquire(target: Target, options: AcquireOptions = {}): Promise<Lease> {
    const timeout = checkTimeout(options.timeout);
    const { signal } = options;
    const plan = this.#plan(target);
    signal?.throwIfAborted();
    const lease = this.#take(plan, target);
    if (lease !== undefined) return lease;
    const { counters } = this.#table;
    if (timeout === 0) throw this.#timedOut(plan, target, 0, 0);
    if (counters.line.length >= this.#maxWaiting)
      throw new QueueFullError(describeTarget(plan.target), counters.line.length);
    const since = this.#now();
    return new Promise<Lease>((resolve, reject) => {
      this.#enqueue(new Request(plan, since, this.#requests++, target, resolve, reject), timeout, signal);
    });
  }

  tryAcquire(target: Target): Lease | undefined {
    return this.#take(this.#plan(target), target);
  }

  async run<T>(target: Target, work: (lease: Lease) => T | PromiseLike<T>, options: AcquireOptions = {}): Promise<T> {
    if (typeof work !== "function") throw new TypeError(`run needs a function to call, not ${typeof work}`);
    const lease = await this.acquire(target, options);
    try {
      return await work(lease);
    } finally {
      lease.release();
    }
  }

  explain(target: Target): Explanation {
    const { counters, plans } = this.#table;
    const plan = plans.of(target);
    return explain(target, counters.verdict(plan), this.#table.scopes(plan.target), counters, this.#now());
  }

  snapshot(): Snapshot {
    const { counters, policy, data } = this.#table;
    const now = this.#now();
    const oldest = oldestWaits(counters);
    const states: CounterState[] = [];
    for (const counter of counters.live()) {
      if (counter.limit !== Number.POSITIVE_INFINITY) states.push(stateOf(counter, oldest.get(counter), now));
    }
    const reserve = reserveOf(data);
    return {
      policy: policy.source,
      leases: this.#held.length,
      waiting: counters.line.length,
      reserve: { inUse: counters.reserveInUse, limit: reserve === Number.POSITIVE_INFINITY ? -1 : reserve },
      counters: states,
    };
  }

  *leases(): Iterable<LeaseInfo> {
    const now = this.#now();
    for (const { target, since, plan } of [...this.#held]) {
      const counters = plan.counters.filter(({ limit }) => limit !== Number.POSITIVE_INFINITY).map(({ key }) => key);
      yield { target, heldFor: Math.round(now - since), counters };
    }
  }

  update(policy: Policy): void {
    const table = new Table(policy, this.#cacheSize);
    const waiting = [...this.#table.counters.line.clear()];
    // Nothing below can fail: a policy is checked when it is made, and the targets were when they came.
    this.#table = table;
    for (const lease of this.#held) {
      lease.plan = table.plans.ofNormal(regroup(lease.plan.target, lease.target.bindingGroup, table.data));
      lease.reserve = table.counters.takeAnyway(lease.plan).reserve;
    }
    const admitted: Request[] = [];
    for (const request of waiting.sort((a, b) => a.order - b.order)) {
      request.plan = table.plans.ofNormal(regroup(request.plan.target, request.target.bindingGroup, table.data));
      const verdict = table.counters.take(request.plan);
      request.reserve = verdict === "reserve";
      if (verdict === "wait") table.counters.line.join(request);
      else admitted.push(request);
    }
    this.#tell(admitted);
  }

  async close({ timeout }: { readonly timeout?: Milliseconds } = {}): Promise<void> {
    const patience = checkTimeout(timeout);
    this.#closed = true;
    for (const request of this.#table.counters.line.clear()) {
      request.settle();
      request.reject(new LimiterClosedError(describeTarget(request.plan.target)));
    }
    if (this.#held.length === 0 || patience === 0) return;
    await new Promise<void>((resolve) => {
      let timer: Disposable | undefined;
      const done = (): void => {
        this.#onEmpty.delete(done);
        quietly(() => timer?.[Symbol.dispose]());
        resolve();
      };
      this.#onEmpty.add(done);
      if (patience !== Number.POSITIVE_INFINITY) timer = this.#clock.after(patience, done);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  giveBack(lease: HeldLease): void {
    this.#held.remove(lease);
    this.#tell(this.#table.counters.drop(lease.plan, lease.reserve));
    if (this.#held.length === 0) for (const done of [...this.#onEmpty]) done();
  }

  #plan(target: Target): Plan {
    if (this.#closed) throw new LimiterClosedError(describeTarget(normalTarget(target, this.#table.data)));
    return this.#table.plans.of(target);
  }

  #take(plan: Plan, target: Target): Lease | undefined {
    const { counters } = this.#table;
    // The clock is asked before anything is taken: if it fails, nothing was.
    const now = this.#now();
    const verdict = counters.take(plan);
    return verdict === "wait" ? undefined : this.#lease(target, plan, verdict === "reserve", now, 0);
  }

  #lease(target: Target, plan: Plan, reserve: boolean, now: Milliseconds, waited: Milliseconds): Lease {
    const lease = new HeldLease(this, target, plan, reserve, now, waited);
    this.#held.add(lease);
    return lease;
  }

  #enqueue(request: Request, timeout: Milliseconds, signal: AbortSignal | undefined): void {
    const { counters } = this.#table;
    counters.line.join(request);
    if (log.enabled) log("%s waits, %d waiting", describeTarget(request.plan.target), counters.line.length);
    try {
      if (signal !== undefined) {
        const aborts = this.#abortsOf(signal);
        aborts.add(request);
        request.aborts = aborts;
      }
      if (timeout !== Number.POSITIVE_INFINITY) {
        const timer = this.#clock.after(timeout, () => this.#timeOut(request, timeout));
        // A clock may have fired at once.
        if (request.settled) quietly(() => timer[Symbol.dispose]());
        else request.timer = timer;
      }
    } catch (error) {
      this.#remove(request, error);
    }
  }

  #abortsOf(signal: AbortSignal): Aborts {
    let aborts = this.#aborts.get(signal);
    if (aborts === undefined) {
      aborts = new Aborts(signal, (request) => this.#remove(request, signal.reason));
      this.#aborts.set(signal, aborts);
    }
    return aborts;
  }

  #timeOut(request: Request, timeout: Milliseconds): void {
    if (request.settled) return;
    const waited = Math.max(timeout, Math.round(this.#safeNow() - request.since));
    const error = this.#timedOut(request.plan, request.target, timeout, waited);
    this.#remove(request, error);
  }

  #timedOut(plan: Plan, target: Target, timeout: Milliseconds, waited: Milliseconds): AcquireTimeoutError {
    const { counters } = this.#table;
    const full = new Set(fullCounters(plan).map(({ key }) => key));
    const blockedBy = explainLimits(this.#table.scopes(plan.target), counters, this.#safeNow(), full);
    return new AcquireTimeoutError(describeTarget(plan.target), timeout, target, waited, blockedBy);
  }

  /** Out of the line, with a reason. */
  #remove(request: Request, reason: unknown): void {
    if (request.settled) return;
    request.settle();
    const admitted = this.#table.counters.leave(request);
    request.reject(reason);
    this.#tell(admitted);
  }

  /** Requests whose slots are taken get their leases. Counts are settled by now: callers' code may run. */
  #tell(admitted: readonly Request[]): void {
    if (this.#table.counters.line.isCut && !this.#resuming) {
      this.#resuming = true;
      queueMicrotask(() => {
        this.#resuming = false;
        this.#tell(this.#table.counters.resume());
      });
    }
    if (admitted.length === 0) return;
    const now = this.#safeNow();
    for (const request of admitted) {
      request.settle();
      const waited = Math.max(0, Math.round(now - request.since));
      if (log.enabled) log("%s goes after %d ms", describeTarget(request.plan.target), waited);
      request.resolve(this.#lease(request.target, request.plan, request.reserve, now, waited));
    }
  }

  #now(): Milliseconds {
    this.#lastNow = this.#clock.now();
    return this.#lastNow;
  }

  /** Where slots are under way, a failing clock must not lose them. */
  #safeNow(): Milliseconds {
    quietly(() => this.#now());
    return this.#lastNow;
  }
}
