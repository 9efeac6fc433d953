// What follows from one policy: its matches, its plans, its counters. Replaced as a whole by another policy.

import { Counters, fullCounters } from "./core/counters.js";
import { explainLimits, oldestWaits } from "./core/explain.js";
import { Matcher } from "./core/match.js";
import type { Counter, Plan } from "./core/plan.js";
import { Plans } from "./core/plans.js";
import { type Scopes, scopesOf } from "./core/resolve.js";
import { type NormalTarget, regroup } from "./core/target.js";
import type { HeldLease } from "./lease.js";
import { dataOf, type PolicyData } from "./policy/policy.js";
import type { Request } from "./request.js";
import type { ExplainedLimit, Milliseconds, Policy, Target } from "./types.js";

/** Queues for each of which an old answer to who waits longest may be a millisecond older. */
const QUEUES_PER_MILLISECOND = 100;

export class Table {
  readonly policy: Policy;
  readonly data: PolicyData;
  readonly counters: Counters<Request>;
  readonly plans: Plans;
  readonly #matcher: Matcher;
  #oldest: { readonly at: Milliseconds; readonly waits: Map<Counter, Milliseconds> } | undefined;

  constructor(policy: Policy, cacheSize: number, clustered: boolean) {
    this.policy = policy;
    this.counters = new Counters<Request>(clustered);
    this.data = dataOf(policy);
    this.#matcher = new Matcher(cacheSize);
    this.plans = new Plans(this.data, this.counters, this.#matcher, cacheSize);
  }

  scopes(target: NormalTarget): Scopes {
    return scopesOf(this.data, target, this.#matcher);
  }

  /** Leases of a table before this one hold slots of this, whether there is room or not. */
  carryOver(leases: Iterable<HeldLease>): void {
    for (const lease of leases) {
      lease.plan = this.#replan(lease.plan, lease.target);
      lease.reserve = this.counters.takeAnyway(lease.plan).reserve;
    }
  }

  /** Requests that waited in a table before this one go or wait in this, in the order in which they came. */
  rejoin(waiting: Request[]): readonly Request[] {
    const admitted: Request[] = [];
    for (const request of waiting.sort((a, b) => a.order - b.order)) {
      request.plan = this.#replan(request.plan, request.target);
      const verdict = this.counters.take(request.plan);
      request.reserve = verdict === "reserve";
      if (verdict === "wait") this.counters.line.join(request);
      else admitted.push(request);
    }
    return admitted;
  }

  #replan({ target }: Plan, { bindingGroup }: Target): Plan {
    return this.plans.ofNormal(regroup(target, bindingGroup, this.data));
  }

  /** The limits that a request waits for now, for one target or whichever of several comes first. */
  blockedBy(plans: readonly Plan[], now: Milliseconds): readonly ExplainedLimit[] {
    const oldest = this.#oldestWaits(now);
    const blockedBy = new Map<string, ExplainedLimit>();
    for (const plan of plans) {
      const full = new Set(fullCounters(plan).map(({ key }) => key));
      const limits = explainLimits(this.scopes(plan.target), this.counters, now, oldest, full);
      for (const limit of limits) if (!blockedBy.has(limit.key)) blockedBy.set(limit.key, limit);
    }
    return [...blockedBy.values()];
  }

  /**
   * As `oldestWaits`, which walks through the whole line. When every receiver is down that is long, and requests time
   * out all the time: then an answer serves for a while.
   */
  #oldestWaits(now: Milliseconds): Map<Counter, Milliseconds> {
    const { size } = this.counters.line.plans;
    const serves = Math.floor(size / QUEUES_PER_MILLISECOND);
    if (this.#oldest === undefined || now - this.#oldest.at >= serves)
      this.#oldest = { at: now, waits: oldestWaits(this.counters) };
    return this.#oldest.waits;
  }
}
