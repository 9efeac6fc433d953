// createLimiter: promises, timers and signals around the table of counters.

import debug from "debug";
import { type CheckedOptions, checkOptions, checkTimeout } from "./checks.js";
import { type Home, Member } from "./cluster/member.js";
import { type Counters, fullCounters, lacksOnlyRemote } from "./core/counters.js";
import { statesOf } from "./core/explain.js";
import type { Counter, Plan } from "./core/plan.js";
import { Roll } from "./core/roll.js";
import { describeTarget, normalTarget, regroup } from "./core/target.js";
import { Deadlines } from "./deadlines.js";
import {
  AcquireTimeoutError,
  ClusterError,
  type LeaseLostError,
  LimiterClosedError,
  QueueFullError,
} from "./errors.js";
import { traceLeases } from "./leak.js";
import { HeldLease, type Lessor } from "./lease.js";
import { explainIn, infoOf, snapshotOf } from "./looking.js";
import { AUDIENCE, Audience, CHANNELS, type Events } from "./observer.js";
import { quietly } from "./quietly.js";
import { Request, Signals } from "./request.js";
import { Table } from "./table.js";
import type {
  AcquireOptions,
  Clock,
  CounterState,
  ExplainedLimit,
  Explanation,
  Lease,
  LeaseInfo,
  Limiter,
  LimiterOptions,
  LocalLimiter,
  Milliseconds,
  Policy,
  Snapshot,
  Target,
} from "./types.js";

const log = debug("outbound-limiter:limiter");
const NONE: readonly never[] = [];

/**
 * Makes a limiter that enforces a policy. Opens nothing and starts no timer until something waits; with a `cluster` it
 * joins that at once, and tells it every now and then that it is alive.
 *
 * @param policy from `parsePolicy`, `loadPolicy` or `definePolicy`; one policy may serve many limiters
 * @param options `maxWaiting`, `matchCacheSize`, `observer`, `cluster`, `clock`
 * @throws {TypeError} not a policy, or an option that does not exist or has the wrong type
 * @throws {RangeError} an option out of range
 * @example
 * const limiter = createLimiter(parsePolicy("max_outbound_connections = 20"));
 */
export function createLimiter(
  policy: Policy,
  options?: LimiterOptions & { readonly cluster?: undefined },
): LocalLimiter;
export function createLimiter(policy: Policy, options: LimiterOptions): Limiter;
export function createLimiter(policy: Policy, options: LimiterOptions = {}): LocalLimiter {
  return traceLeases(new OutboundLimiter(policy, checkOptions(options)));
}

/** Whole, and not negative whatever a clock does. */
const elapsed = (since: Milliseconds, now: Milliseconds): Milliseconds => Math.max(0, Math.round(now - since));

class OutboundLimiter implements LocalLimiter, Lessor {
  readonly #maxWaiting: number;
  readonly #cacheSize: number;
  readonly #clock: Clock;
  readonly #held = new Roll<HeldLease>();
  readonly #deadlines: Deadlines<Request>;
  readonly #signals = new Signals((request, reason) => this.#remove(request, reason));
  readonly #audience = new Audience(() => this.#table.policy);
  #table: Table;
  #closed = false;
  #lastNow = 0;
  #resuming = false;
  #requests = 0;
  readonly #member: Member<Request, HeldLease> | undefined;
  readonly #onEmpty = new Set<() => void>();

  constructor(policy: Policy, options: CheckedOptions) {
    const { observer, cluster } = options;
    this.#maxWaiting = options.maxWaiting;
    this.#cacheSize = options.matchCacheSize;
    this.#clock = options.clock;
    this.#deadlines = new Deadlines(options.clock, {
      expire: (due) => this.#timeOut(due),
      fail: (all, error) => {
        for (const request of all) this.#remove(request, error);
      },
    });
    if (observer !== undefined) this.#audience.add(observer);
    this.#table = new Table(policy, this.#cacheSize, cluster !== undefined);
    this.#member = cluster && new Member(cluster, this.#home());
  }

  get [AUDIENCE](): Audience {
    return this.#audience;
  }

  // Not async: that would make two promises more for each request that waits.
  acquire(target: Target, options: AcquireOptions = {}): Promise<Lease> {
    try {
      return this.#acquire(target, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #acquire(target: Target, options: AcquireOptions): Promise<Lease> {
    const timeout = checkTimeout(options.timeout);
    const { signal } = options;
    const plan = this.#plan(target);
    signal?.throwIfAborted();
    const lease = this.#take(plan, target);
    if (lease !== undefined) return Promise.resolve(lease);
    const name = describeTarget(plan.target);
    const isProbe = timeout === 0 && lacksOnlyRemote(plan);
    if (timeout === 0 && !isProbe) {
      const blockedBy = this.#table.blockedBy(plan, this.#lastNow);
      throw this.#refuse(target, plan, new AcquireTimeoutError(name, 0, target, 0, blockedBy));
    }
    const { length } = this.#table.counters.line;
    if (length >= this.#maxWaiting) throw this.#refuse(target, plan, new QueueFullError(name, length));
    return new Promise<Lease>((resolve, reject) => {
      const asked = { target, timeout, resolve, reject };
      this.#enqueue(new Request(plan, this.#lastNow, this.#requests++, asked), signal, isProbe);
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
    return explainIn(this.#table, target, this.#now());
  }

  snapshot(): Snapshot {
    return snapshotOf(this.#table, this.#held.length, this.#now());
  }

  *leases(): Iterable<LeaseInfo> {
    const now = this.#now();
    for (const lease of [...this.#held]) yield infoOf(lease, now);
  }

  update(policy: Policy): void {
    const table = new Table(policy, this.#cacheSize, this.#member !== undefined);
    const before = this.#table.counters;
    const waiting = [...this.#table.counters.line.clear()];
    // Nothing below can fail: a policy is checked when it is made, and the targets were when they came.
    const from = this.#table.policy.source;
    this.#table = table;
    for (const lease of this.#held) {
      lease.plan = table.plans.ofNormal(regroup(lease.plan.target, lease.target.bindingGroup, table.data));
      lease.reserve = table.counters.takeAnyway(lease.plan).reserve;
    }
    this.#member?.moved(before, table.counters);
    const admitted: Request[] = [];
    for (const request of waiting.sort((a, b) => a.order - b.order)) {
      request.plan = table.plans.ofNormal(regroup(request.plan.target, request.target.bindingGroup, table.data));
      const verdict = table.counters.take(request.plan);
      request.reserve = verdict === "reserve";
      if (verdict === "wait") table.counters.line.join(request);
      else admitted.push(request);
    }
    const granted = this.#grant(admitted);
    if (this.#audience.wants(CHANNELS.updated)) {
      const over = [...table.counters.live()].filter(({ inUse, limit, ceiling }) => inUse > Math.max(limit, ceiling));
      this.#audience.tell("updated", { from, to: policy.source, overLimit: this.#states(over) });
    }
    this.#tellGranted(granted);
  }

  async close({ timeout }: { readonly timeout?: Milliseconds } = {}): Promise<void> {
    const patience = checkTimeout(timeout);
    this.#closed = true;
    const waiting = this.#table.counters.line.clear();
    const errors = waiting.map(({ plan }) => new LimiterClosedError(describeTarget(plan.target)));
    for (const [index, request] of waiting.entries()) {
      request.settle();
      request.reject(errors[index]);
    }
    for (const [index, { target, plan, since }] of waiting.entries()) this.#refuse(target, plan, errors[index], since);
    if (this.#held.length > 0 && patience > 0) await this.#emptied(patience);
    if (this.#held.length === 0) await this.#member?.leave();
  }

  #emptied(patience: Milliseconds): Promise<void> {
    return new Promise<void>((resolve) => {
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
    const granted = this.#grant(this.#table.counters.drop(lease.plan, lease.reserve));
    if (lease.plan.remote) this.#member?.leased(-1);
    if (this.#audience.wants(CHANNELS.released)) {
      this.#audience.tell("released", { target: lease.target, held: elapsed(lease.since, this.#safeNow()) });
    }
    this.#tellGranted(granted);
    if (!this.#closed || this.#held.length > 0) return;
    for (const done of [...this.#onEmpty]) done();
    void this.#member?.leave();
  }

  tellLost(target: Target, error: LeaseLostError): void {
    if (this.#audience.wants(CHANNELS.lost)) this.#audience.tell("lost", { target, error });
  }

  /** What a member of a cluster needs of this limiter. */
  #home(): Home<Request, HeldLease> {
    const counters = (): Counters<Request> => this.#table.counters;
    return {
      get counters() {
        return counters();
      },
      leases: () => this.#held,
      admit: (admitted) => this.#tellGranted(this.#grant(admitted)),
      refuse: (requests, cause) => {
        for (const request of requests) {
          const what = `No connection slot for ${describeTarget(request.plan.target)}: cluster limits cannot be checked`;
          this.#remove(request, new ClusterError(what, cause));
        }
      },
      answered: (requests) => this.#timeOut(requests.filter(({ settled }) => !settled)),
      tell: (state, error) => {
        if (this.#audience.wants(CHANNELS.cluster))
          this.#audience.tell("cluster", error === undefined ? { state } : { state, error });
      },
    };
  }

  #plan(target: Target): Plan {
    if (this.#closed) throw new LimiterClosedError(describeTarget(normalTarget(target, this.#table.data)));
    return this.#table.plans.of(target);
  }

  #take(plan: Plan, target: Target): Lease | undefined {
    const { counters } = this.#table;
    // The clock is asked before anything is taken: if it fails, nothing was.
    const now = this.#now();
    if (plan.remote) this.#member?.check();
    const verdict = counters.take(plan);
    if (verdict === "wait") return undefined;
    const lease = this.#lease(target, plan, verdict === "reserve", now, 0);
    if (this.#audience.wants(CHANNELS.granted))
      this.#audience.tell("granted", { target, waited: 0, reserve: lease.reserve, blockedBy: [] });
    return lease;
  }

  #lease(target: Target, plan: Plan, reserve: boolean, now: Milliseconds, waited: Milliseconds): HeldLease {
    const lease = new HeldLease(this, target, plan, reserve, now, waited);
    this.#held.add(lease);
    if (plan.remote) this.#member?.leased(1);
    return lease;
  }

  #enqueue(request: Request, signal: AbortSignal | undefined, isProbe: boolean): void {
    const { counters } = this.#table;
    const { plan, target } = request;
    counters.line.join(request);
    try {
      if (signal !== undefined) {
        request.aborts = this.#signals.of(signal);
        request.aborts.add(request);
      }
      if (isProbe) this.#member?.probe(request);
      else if (request.timeout !== Number.POSITIVE_INFINITY) {
        request.deadlines = this.#deadlines;
        this.#deadlines.add(request);
      }
    } catch (error) {
      this.#remove(request, error);
      return;
    }
    this.#nudge();
    if (log.enabled) log("%s waits, %d waiting", describeTarget(plan.target), counters.line.length);
    if (!request.settled && this.#audience.wants(CHANNELS.queued))
      this.#audience.tell("queued", { target, blockedBy: this.#states(fullCounters(plan)) });
  }

  /** What held them up is found out before the first of them leaves, and once for all of one queue. */
  #timeOut(due: readonly Request[]): void {
    const now = this.#safeNow();
    const blockedBy = new Map<Plan, readonly ExplainedLimit[]>();
    for (const { plan } of due) if (!blockedBy.has(plan)) blockedBy.set(plan, this.#table.blockedBy(plan, now));
    for (const request of due) {
      const { plan, target, timeout, since } = request;
      const waited = Math.max(timeout, Math.round(now - since));
      const name = describeTarget(plan.target);
      this.#remove(request, new AcquireTimeoutError(name, timeout, target, waited, blockedBy.get(plan) ?? NONE));
    }
  }

  /** Out of the line, with a reason. */
  #remove(request: Request, reason: unknown): void {
    if (request.settled) return;
    const { plan, target, since } = request;
    // What it waited for is told as it was: leaving may free it for others.
    const full = this.#audience.wants(CHANNELS.refused) ? fullCounters(plan) : undefined;
    request.settle();
    const granted = this.#grant(this.#table.counters.leave(request));
    request.reject(reason);
    this.#refuse(target, plan, reason, since, full);
    this.#tellGranted(granted);
  }

  /** Tells of a request that ends without a lease: whether it waited `since` then, and the limits that were `full`. */
  #refuse<Reason>(target: Target, plan: Plan, error: Reason, since?: Milliseconds, full?: readonly Counter[]): Reason {
    if (this.#audience.wants(CHANNELS.refused)) {
      const waited = since === undefined ? 0 : elapsed(since, this.#safeNow());
      this.#audience.tell("refused", { target, error, waited, blockedBy: this.#states(full ?? fullCounters(plan)) });
    }
    return error;
  }

  /** Requests whose slots are taken get their leases. Returns who has to be told, once everything is settled. */
  #grant(admitted: readonly Request[]): readonly Events["granted"][] {
    if (this.#table.counters.line.isCut && !this.#resuming) {
      this.#resuming = true;
      queueMicrotask(() => {
        this.#resuming = false;
        this.#tellGranted(this.#grant(this.#table.counters.resume()));
      });
    }
    this.#nudge();
    if (admitted.length === 0) return NONE;
    const now = this.#safeNow();
    for (const request of admitted) {
      request.settle();
      const waited = elapsed(request.since, now);
      if (log.enabled) log("%s goes after %d ms", describeTarget(request.plan.target), waited);
      request.resolve(this.#lease(request.target, request.plan, request.reserve, now, waited));
    }
    if (!this.#audience.wants(CHANNELS.granted)) return NONE;
    return admitted.map(({ target, since, reserve, waitedFor }) => {
      const blockedBy = waitedFor === undefined ? [] : this.#states([waitedFor]);
      return { target, waited: elapsed(since, now), reserve, blockedBy };
    });
  }

  /** The cluster is asked for what the line lacks, and given what is not needed. */
  #nudge(): void {
    if (this.#member === undefined) return;
    const { line, returned } = this.#table.counters;
    if (line.pressed.size > 0 || returned.size > 0) this.#member.nudge();
  }

  #tellGranted(granted: readonly Events["granted"][]): void {
    for (const event of granted) this.#audience.tell("granted", event);
  }

  #states(counters: readonly Counter[]): CounterState[] {
    const limited = counters.filter(({ limit }) => limit !== Number.POSITIVE_INFINITY);
    return statesOf(limited, this.#table.counters, this.#lastNow);
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
