// createLimiter: the promises of callers around the table of counters.

import { Admission } from "./admission.js";
import { type CheckedOptions, checkAcquire, checkOptions, checkTimeout, NO_OPTIONS } from "./checks.js";
import { lacksOnlyRemote } from "./core/counters.js";
import type { Plan } from "./core/plan.js";
import { describeTarget } from "./core/target.js";
import { AcquireTimeoutError, QueueFullError } from "./errors.js";
import { traceLeases } from "./leak.js";
import { explainIn, infoOf, snapshotOf } from "./looking.js";
import { AUDIENCE, type Audience } from "./observer.js";
import type {
  AcquireOptions,
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

class OutboundLimiter implements LocalLimiter {
  readonly #maxWaiting: number;
  readonly #admission: Admission;

  constructor(policy: Policy, options: CheckedOptions) {
    this.#maxWaiting = options.maxWaiting;
    this.#admission = new Admission(policy, options);
  }

  get [AUDIENCE](): Audience {
    return this.#admission.audience;
  }

  // Not async: that would make two promises more for each request that waits.
  acquire(target: Target, options: AcquireOptions = NO_OPTIONS): Promise<Lease> {
    try {
      return this.#acquire([target], options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  acquireAny(targets: readonly Target[], options: AcquireOptions = NO_OPTIONS): Promise<Lease> {
    try {
      if (!Array.isArray(targets) || targets.length === 0) throw new TypeError("acquireAny needs a list of targets");
      return this.#acquire(targets, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #acquire(targets: readonly Target[], options: AcquireOptions): Promise<Lease> {
    const admission = this.#admission;
    const timeout = checkAcquire(options);
    const plans = targets.map((target) => admission.plan(target));
    options.signal?.throwIfAborted();
    for (const [at, plan] of plans.entries()) {
      const lease = admission.take(plan, targets[at] as Target);
      if (lease !== undefined) return Promise.resolve(lease);
    }
    const [plan] = plans as [Plan];
    const [target] = targets as [Target];
    const name = describeTarget(plan.target);
    const isProbe = timeout === 0 && plans.some(lacksOnlyRemote);
    if (timeout === 0 && !isProbe) {
      const blockedBy = admission.table.blockedBy(plans, admission.lastNow);
      throw admission.refuse(target, plan, new AcquireTimeoutError(name, 0, target, 0, blockedBy));
    }
    const { waiting } = admission;
    if (waiting >= this.#maxWaiting) throw admission.refuse(target, plan, new QueueFullError(name, waiting));
    return new Promise<Lease>((resolve, reject) => {
      const asked = targets.map((target) => ({ target, timeout, resolve, reject }));
      admission.enqueue(asked, plans, options, isProbe);
    });
  }

  tryAcquire(target: Target): Lease | undefined {
    return this.#admission.take(this.#admission.plan(target), target);
  }

  async run<T>(target: Target, work: (lease: Lease) => T | PromiseLike<T>, options?: AcquireOptions): Promise<T> {
    if (typeof work !== "function") throw new TypeError(`run needs a function to call, not ${typeof work}`);
    const lease = await this.acquire(target, options);
    try {
      return await work(lease);
    } finally {
      lease.release();
    }
  }

  explain(target: Target): Explanation {
    return explainIn(this.#admission.table, target, this.#admission.now());
  }

  snapshot(): Snapshot {
    const { table, held, waiting } = this.#admission;
    return snapshotOf(table, { leases: held.length, waiting }, this.#admission.now());
  }

  *leases(): Iterable<LeaseInfo> {
    const now = this.#admission.now();
    for (const lease of [...this.#admission.held]) yield infoOf(lease, now);
  }

  update(policy: Policy): void {
    this.#admission.update(policy);
  }

  async close({ timeout }: { readonly timeout?: Milliseconds } = {}): Promise<void> {
    await this.#admission.close(checkTimeout(timeout));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
