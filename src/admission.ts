// Who is admitted: the table in force, the leases held, the requests that wait. All is settled before anybody is told.

import debug from "debug";
import type { CheckedOptions } from "./checks.js";
import { type Home, Member } from "./cluster/member.js";
import { type Counters, fullCounters, lacksOnlyRemote } from "./core/counters.js";
import { statesOf } from "./core/explain.js";
import { type Counter, type Plan, surplusOf, withoutThoseOf } from "./core/plan.js";
import { Roll } from "./core/roll.js";
import { describeTarget, normalTarget } from "./core/target.js";
import { Deadlines } from "./deadlines.js";
import { AcquireTimeoutError, ClusterError, type LeaseLostError, LimiterClosedError } from "./errors.js";
import { Idlers } from "./idlers.js";
import { HeldLease, type Lessor } from "./lease.js";
import { Audience, CHANNELS, type Events } from "./observer.js";
import { quietly } from "./quietly.js";
import { type Asked, Request } from "./request.js";
import { Signals } from "./signals.js";
import { Table } from "./table.js";
import type {
  AcquireOptions,
  Clock,
  CounterState,
  ExplainedLimit,
  Lease,
  Milliseconds,
  Policy,
  Target,
} from "./types.js";

const log = debug("outbound-limiter:limiter");
const NONE: readonly never[] = [];

/** Whole, and not negative whatever a clock does. */
const elapsed = (since: Milliseconds, now: Milliseconds): Milliseconds => Math.max(0, Math.round(now - since));

export class Admission implements Lessor {
  readonly audience: Audience = new Audience(() => this.table.policy);
  readonly idlers: Idlers = new Idlers();
  readonly held: Roll<HeldLease> = new Roll<HeldLease>();
  table: Table;
  isClosed = false;
  readonly #cacheSize: number;
  readonly #clock: Clock;
  readonly #deadlines: Deadlines<Request>;
  readonly #signals = new Signals<Request>((request, reason) => this.remove(request, reason));
  readonly #member: Member<Request, HeldLease> | undefined;
  readonly #onEmpty = new Set<() => void>();
  /** Asked for last, so that who only tells of a time need not ask again. */
  lastNow = 0;
  #resuming = false;
  #requests = 0;
  /** Requests in the line beside the first of those that stand for one caller. */
  #rivals = 0;

  constructor(policy: Policy, options: CheckedOptions) {
    const { observer, cluster, clock } = options;
    this.#cacheSize = options.matchCacheSize;
    this.#clock = clock;
    this.#deadlines = new Deadlines(clock, {
      expire: (due) => this.#timeOut(due),
      fail: (all, error) => {
        for (const request of all) this.remove(request, error);
      },
    });
    if (observer !== undefined) this.audience.add(observer);
    this.table = new Table(policy, this.#cacheSize, cluster !== undefined);
    this.#member = cluster && new Member(cluster, this.#home());
  }

  /** Requests waiting. */
  get waiting(): number {
    return this.table.counters.line.length - this.#rivals;
  }

  plan(target: Target): Plan {
    if (this.isClosed) throw new LimiterClosedError(describeTarget(normalTarget(target, this.table.data)));
    return this.table.plans.of(target);
  }

  /** A lease, if there is room now. */
  take(plan: Plan, target: Target): Lease | undefined {
    const { counters } = this.table;
    // The clock is asked before anything is taken: if it fails, nothing was.
    const now = this.now();
    if (plan.remote) this.#member?.check();
    const verdict = counters.take(plan);
    if (verdict === "wait") return undefined;
    const lease = this.#lease(target, plan, verdict === "reserve", now, 0);
    if (this.audience.wants(CHANNELS.granted))
      this.audience.tell("granted", { target, waited: 0, reserve: lease.reserve, blockedBy: [] });
    return lease;
  }

  #lease(target: Target, plan: Plan, reserve: boolean, now: Milliseconds, waited: Milliseconds): HeldLease {
    const lease = new HeldLease(this, target, plan, reserve, now, waited);
    this.held.add(lease);
    if (plan.remote) this.#member?.leased(1);
    return lease;
  }

  /** Lets requests wait for one lease: each for another target, with the same caller. */
  enqueue(asked: readonly Asked[], plans: readonly Plan[], { signal }: AcquireOptions, isProbe: boolean): void {
    const requests = plans.map((plan, at) => new Request(plan, this.lastNow, this.#requests++, asked[at] as Asked));
    const [first] = requests as [Request];
    if (requests.length > 1) {
      for (const request of requests) request.rivals = requests;
      this.#rivals += requests.length - 1;
    }
    const { counters } = this.table;
    for (const request of requests) counters.line.join(request);
    try {
      if (signal !== undefined) first.aborts = this.#signals.add(signal, first);
      if (isProbe) this.#member?.probe(first);
      else if (first.timeout !== Number.POSITIVE_INFINITY) {
        first.deadlines = this.#deadlines;
        this.#deadlines.add(first);
      }
    } catch (error) {
      this.remove(first, error);
      return;
    }
    this.#nudge();
    const { plan, target } = first;
    if (log.enabled) log("%s waits, %d waiting", describeTarget(plan.target), this.waiting);
    if (!first.settled && !first.isMove && this.audience.wants(CHANNELS.queued))
      this.audience.tell("queued", { target, blockedBy: this.#states(fullCounters(plan)) });
  }

  update(policy: Policy): void {
    const before = this.table;
    const table = new Table(policy, this.#cacheSize, this.#member !== undefined);
    const waiting = [...before.counters.line.clear()];
    // Nothing below can fail: a policy is checked when it is made, and the targets were when they came.
    this.table = table;
    table.carryOver(this.held);
    this.#member?.moved(before.counters, table.counters);
    this.idlers.carryOver(this.held);
    const granted = this.#grant(table.rejoin(waiting));
    if (this.audience.wants(CHANNELS.updated)) {
      const over = [...table.counters.live()].filter((counter) => surplusOf(counter) > 0);
      this.audience.tell("updated", { from: before.policy.source, to: policy.source, overLimit: this.#states(over) });
    }
    this.#tellGranted(granted);
  }

  /** Nobody is admitted any more, and nobody waits. Resolves when every lease is back, or after that time. */
  async close(patience: Milliseconds): Promise<void> {
    this.isClosed = true;
    const waiting = this.table.counters.line.clear().filter((request) => this.#settle(request));
    const errors = waiting.map(({ plan }) => new LimiterClosedError(describeTarget(plan.target)));
    for (const [index, request] of waiting.entries()) {
      request.letGo();
      request.reject(errors[index]);
    }
    this.#nudge();
    for (const [index, { target, plan, since }] of waiting.entries()) this.refuse(target, plan, errors[index], since);
    this.idlers.close(this.held);
    if (this.held.length > 0 && patience > 0) await this.#emptied(patience);
    if (this.held.length === 0) await this.#member?.leave();
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

  giveBack(lease: HeldLease): void {
    this.held.remove(lease);
    const granted = this.#grant(this.table.counters.drop(lease.plan, lease.reserve));
    // Not before: who gets its slots now needs no other one's.
    if (lease.wanted !== undefined) this.idlers.end(lease);
    if (lease.plan.remote) this.#member?.leased(-1);
    if (this.audience.wants(CHANNELS.released)) {
      this.audience.tell("released", { target: lease.target, held: elapsed(lease.since, this.#safeNow()) });
    }
    this.#tellGranted(granted);
    if (!this.isClosed || this.held.length > 0) return;
    for (const done of [...this.#onEmpty]) done();
    void this.#member?.leave();
  }

  move(lease: HeldLease, target: Target): Promise<boolean> {
    const plan = this.table.plans.of(target);
    if (plan === lease.plan) {
      lease.target = target;
      return Promise.resolve(true);
    }
    const gains = withoutThoseOf(plan, lease.plan);
    if (plan.remote) this.#member?.check();
    // Never out of the reserve: what that applies to applies to all targets, so the lease has it already.
    if (this.table.counters.take(gains) !== "wait") {
      this.#moveTo(lease, target, plan);
      return Promise.resolve(true);
    }
    if (!lacksOnlyRemote(gains)) return Promise.resolve(false);
    return this.#moveByCluster(lease, target, gains);
  }

  /** What the lease lacks is asked of the cluster, for a lease of its own; then the two are made one. */
  async #moveByCluster(lease: HeldLease, target: Target, gains: Plan): Promise<boolean> {
    const before = lease.plan;
    const gained = await new Promise<Lease | undefined>((resolve) => {
      const asked: Asked = { target, timeout: 0, resolve, reject: () => resolve(undefined), isMove: true };
      this.enqueue([asked], [gains], {}, true);
    });
    if (!(gained instanceof HeldLease)) return false;
    // After an update it holds a slot of every counter.
    const isWhole = gained.plan !== gains;
    // Released or moved meanwhile.
    if (!lease.isHeld || (!isWhole && lease.plan !== before)) {
      gained.release();
      return false;
    }
    gained.end();
    this.held.remove(gained);
    if (gained.plan.remote) this.#member?.leased(-1);
    if (isWhole) {
      // What both hold of it is held once.
      const { counters } = this.table;
      const twice = withoutThoseOf(lease.plan, withoutThoseOf(lease.plan, gained.plan));
      this.#tellGranted(this.#grant(counters.drop(twice, gained.reserve)));
    }
    this.#moveTo(lease, target, isWhole ? gained.plan : this.table.plans.of(target));
    return true;
  }

  /** The lease holds what it needs for the target: the rest is given back. */
  #moveTo(lease: HeldLease, target: Target, plan: Plan): void {
    if (lease.wanted !== undefined) this.idlers.end(lease);
    const before = lease.plan;
    if (before.remote !== plan.remote) this.#member?.leased(plan.remote ? 1 : -1);
    lease.plan = plan;
    lease.target = target;
    this.#tellGranted(this.#grant(this.table.counters.drop(withoutThoseOf(before, plan), false)));
  }

  tellLost(target: Target, error: LeaseLostError): void {
    if (this.audience.wants(CHANNELS.lost)) this.audience.tell("lost", { target, error });
  }

  /** What a member of a cluster needs of this limiter. */
  #home(): Home<Request, HeldLease> {
    const counters = (): Counters<Request> => this.table.counters;
    return {
      get counters() {
        return counters();
      },
      leases: () => this.held,
      admit: (admitted) => this.#tellGranted(this.#grant(admitted)),
      refuse: (requests, cause) => {
        for (const request of requests) {
          const what = `No connection slot for ${describeTarget(request.plan.target)}: cluster limits cannot be checked`;
          this.remove(request, new ClusterError(what, cause));
        }
      },
      answered: (requests) => this.#timeOut(requests.filter(({ settled }) => !settled)),
      tell: (state, error) => {
        if (this.audience.wants(CHANNELS.cluster))
          this.audience.tell("cluster", error === undefined ? { state } : { state, error });
      },
    };
  }

  /** What held them up is found out before the first of them leaves, and once for all of one queue. */
  #timeOut(due: readonly Request[]): void {
    const now = this.#safeNow();
    const known = new Map<Plan | readonly Request[], readonly ExplainedLimit[]>();
    const blockedBy = due.map(({ plan, rivals }) => {
      const of = rivals ?? plan;
      const limits = known.get(of) ?? this.table.blockedBy(rivals?.map((rival) => rival.plan) ?? [plan], now);
      known.set(of, limits);
      return limits;
    });
    for (const [at, request] of due.entries()) {
      const { plan, target, timeout, since } = request;
      const waited = Math.max(timeout, Math.round(now - since));
      const name = describeTarget(plan.target);
      this.remove(request, new AcquireTimeoutError(name, timeout, target, waited, blockedBy[at] ?? NONE));
    }
  }

  /** Out of the line, with a reason. */
  remove(request: Request, reason: unknown): void {
    const { plan, target, since } = request;
    // What it waited for is told as it was: leaving may free it for others.
    const full = this.audience.wants(CHANNELS.refused) ? fullCounters(plan) : undefined;
    if (!this.#settle(request)) return;
    const granted = this.#grant(this.#leave(request));
    request.letGo();
    request.reject(reason);
    if (!request.isMove) this.refuse(target, plan, reason, since, full);
    this.#tellGranted(granted);
  }

  /** Its caller gets an answer, and only this one. Returns whether he had none. */
  #settle(request: Request): boolean {
    if (request.settled) return false;
    request.settled = true;
    if (request.rivals === undefined) return true;
    for (const rival of request.rivals) rival.settled = true;
    this.#rivals -= request.rivals.length - 1;
    return true;
  }

  /** Takes a request, and those for other targets of its caller, out of the line. Returns who is admitted by that. */
  #leave(request: Request): readonly Request[] {
    const { counters } = this.table;
    if (request.rivals === undefined) return counters.leave(request);
    return request.rivals.flatMap((rival) => (rival.waits ? counters.leave(rival) : NONE));
  }

  /** Tells of a request that ends without a lease: whether it waited `since` then, and the limits that were `full`. */
  refuse<Reason>(target: Target, plan: Plan, error: Reason, since?: Milliseconds, full?: readonly Counter[]): Reason {
    if (this.audience.wants(CHANNELS.refused)) {
      const waited = since === undefined ? 0 : elapsed(since, this.#safeNow());
      this.audience.tell("refused", { target, error, waited, blockedBy: this.#states(full ?? fullCounters(plan)) });
    }
    return error;
  }

  /** Requests whose slots are taken get their leases. Returns who has to be told, once everything is settled. */
  #grant(admitted: readonly Request[]): readonly Events["granted"][] {
    const { counters } = this.table;
    if (counters.line.isCut && !this.#resuming) {
      this.#resuming = true;
      queueMicrotask(() => {
        this.#resuming = false;
        this.#tellGranted(this.#grant(this.table.counters.resume()));
      });
    }
    this.#nudge();
    if (admitted.length === 0) return NONE;
    const now = this.#safeNow();
    const all = [...admitted];
    const granted: Request[] = [];
    const leases: (readonly [Request, HeldLease])[] = [];
    for (const request of all) {
      if (this.#settle(request)) {
        if (request.rivals !== undefined) all.push(...this.#leave(request));
        const waited = elapsed(request.since, now);
        if (log.enabled) log("%s goes after %d ms", describeTarget(request.plan.target), waited);
        leases.push([request, this.#lease(request.target, request.plan, request.reserve, now, waited)]);
        if (!request.isMove) granted.push(request);
      } else {
        // Another target of the same caller was admitted in the same step.
        all.push(...counters.drop(request.plan, request.reserve));
      }
    }
    // All of them hold by now: callers' code runs, that of a `then` as well, and may change the policy.
    for (const [request, lease] of leases) {
      request.letGo();
      request.resolve(lease);
    }
    if (!this.audience.wants(CHANNELS.granted)) return NONE;
    return granted.map(({ target, since, reserve, waitedFor }) => {
      const blockedBy = waitedFor === undefined ? [] : this.#states([waitedFor]);
      return { target, waited: elapsed(since, now), reserve, blockedBy };
    });
  }

  /** The cluster is asked for what the line lacks, and given what is not needed; idle connections are asked to end. */
  #nudge(): void {
    const { line, returned } = this.table.counters;
    if (line.idle.size > 0) this.idlers.ask(line.idle);
    if (this.#member !== undefined && (line.pressed.size > 0 || returned.size > 0)) this.#member.nudge();
  }

  #tellGranted(granted: readonly Events["granted"][]): void {
    for (const event of granted) this.audience.tell("granted", event);
  }

  #states(counters: readonly Counter[]): CounterState[] {
    const limited = counters.filter(({ limit }) => limit !== Number.POSITIVE_INFINITY);
    return statesOf(limited, this.table.counters, this.lastNow);
  }

  now(): Milliseconds {
    this.lastNow = this.#clock.now();
    return this.lastNow;
  }

  /** Where slots are under way, a failing clock must not lose them. */
  #safeNow(): Milliseconds {
    quietly(() => this.now());
    return this.lastNow;
  }
}
