// What the tests of this folder ask a limiter: which limits apply, how many connections open, who shares a counter.
import {
  createLimiter,
  type Lease,
  type LimitOption,
  type LocalLimiter,
  parsePolicy,
  type Target,
} from "../../src/index.js";

/** A limiter for policy text. Options that are not ours are ignored, because the manuals' examples carry some. */
export function limiterFor(text: string): LocalLimiter {
  return createLimiter(parsePolicy(text, { source: "limits.conf", unknown: "ignore" }));
}

/** Every limit of that option that applies to the target, smallest first. */
export function limitsOf(limiter: LocalLimiter, target: Target, option: LimitOption): number[] {
  const found = limiter.explain(target).limits.filter((limit) => limit.option === option);
  return found.map((limit) => limit.limit).sort((one, other) => one - other);
}

/** Where each limit of that option was set, as `scope: limit`; the built-in default reads `default`. */
export function placesOf(limiter: LocalLimiter, target: Target, option: LimitOption): string[] {
  const found = limiter.explain(target).limits.filter((limit) => limit.option === option);
  return found.map((limit) => `${limit.setAt?.scope ?? "default"}: ${limit.limit}`).sort();
}

/** Opens connections to the targets in turn until every one of them is refused, and keeps them. */
export function openAll(limiter: LocalLimiter, targets: readonly Target[]): Lease[] {
  const leases: Lease[] = [];
  for (let refused = 0, turn = 0; refused < targets.length; turn++) {
    const target = targets[turn % targets.length];
    const lease = target && limiter.tryAcquire(target);
    if (lease) leases.push(lease);
    refused = lease ? 0 : refused + 1;
    if (leases.length > 100_000) throw new Error("No limit in sight after 100000 connections");
  }
  return leases;
}

/** How many connections to these targets may be open at once, all together. Gives them back. */
export function room(limiter: LocalLimiter, ...targets: readonly Target[]): number {
  const leases = openAll(limiter, targets);
  for (const lease of leases) lease.release();
  return leases.length;
}

/** The keys of the target's counters for an option. */
export function keysOf(limiter: LocalLimiter, target: Target, option: LimitOption): string[] {
  const found = limiter.explain(target).limits.filter((limit) => limit.option === option);
  return found.map((limit) => limit.key).sort();
}

/** After the promises that are ready have run. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
