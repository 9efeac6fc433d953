// What a limiter shows of itself, and changes nothing by it.

import { explain, oldestWaits, stateOf } from "./core/explain.js";
import type { Counter } from "./core/plan.js";
import type { HeldLease } from "./lease.js";
import { asWritten, reserveOf } from "./policy/policy.js";
import type { Table } from "./table.js";
import type { Explanation, LeaseInfo, Milliseconds, Snapshot, Target } from "./types.js";

const isLimited = ({ limit }: Counter): boolean => limit !== Number.POSITIVE_INFINITY;

export function explainIn(table: Table, target: Target, now: Milliseconds): Explanation {
  const plan = table.plans.of(target);
  return explain(target, plan, table.scopes(plan.target), table.counters, now);
}

export function snapshotOf(
  { counters, policy, data }: Table,
  { leases, waiting }: Pick<Snapshot, "leases" | "waiting">,
  now: Milliseconds,
): Snapshot {
  const oldest = oldestWaits(counters);
  return {
    policy: policy.source,
    leases,
    waiting,
    reserve: { inUse: counters.reserveInUse, limit: asWritten(reserveOf(data)) },
    counters: [...counters.live()].filter(isLimited).map((counter) => stateOf(counter, oldest.get(counter), now)),
  };
}

export function infoOf({ target, since, plan }: HeldLease, now: Milliseconds): LeaseInfo {
  const counters = plan.counters.filter(isLimited).map(({ key }) => key);
  return { target, heldFor: Math.round(now - since), counters };
}
