// Connections that are open and unused, as in a pool: asked to end when somebody waits for their slots.

import type { Counter } from "./core/plan.js";
import type { HeldLease } from "./lease.js";
import { quietly } from "./quietly.js";

/** Leases that hold a slot of one counter. */
interface Holders {
  /** Idle, the longest first, and not asked yet. */
  readonly idle: Set<HeldLease>;
  /** Asked to end, and neither ended nor in use again. */
  readonly asked: Set<HeldLease>;
}

/**
 * INVARIANT: `counter.idle` is how many leases of `idle` it has, so that nobody looks here for a counter without any. No
 * more are asked than requests wait.
 */
export class Idlers {
  readonly #holders = new Map<Counter, Holders>();

  /** A lease is idle from now on, until it ends or is busy. */
  begin(lease: HeldLease): void {
    const waitedFor: Counter[] = [];
    for (const counter of lease.plan.counters) {
      if (counter.limit === Number.POSITIVE_INFINITY) continue;
      this.#of(counter).idle.add(lease);
      counter.idle++;
      if (isWaitedFor(counter)) waitedFor.push(counter);
    }
    this.ask(waitedFor);
  }

  /** A lease is given back, or in use again: then somebody else may have to be asked. */
  end(lease: HeldLease): void {
    lease.wanted = undefined;
    const waitedFor: Counter[] = [];
    for (const counter of lease.plan.counters) {
      const holders = this.#holders.get(counter);
      if (holders === undefined) continue;
      if (holders.idle.delete(lease)) counter.idle--;
      if (holders.asked.delete(lease) && isWaitedFor(counter)) waitedFor.push(counter);
      if (holders.idle.size + holders.asked.size === 0) this.#holders.delete(counter);
    }
    this.ask(waitedFor);
  }

  /** Asks as many of the idle leases of some counters as requests wait for those, and empties the set. */
  ask(counters: Iterable<Counter> & { clear?: () => void }): void {
    for (const counter of counters) {
      const holders = this.#holders.get(counter);
      if (holders === undefined) continue;
      // How many wait in other processes is not known: one after the other.
      const wanted = Math.max(counter.wanted, counter.awaited ? 1 : 0);
      for (const lease of holders.idle) {
        if (holders.asked.size >= wanted) break;
        this.#ask(lease);
      }
    }
    counters.clear?.();
  }

  /** The leases have other counters now. */
  carryOver(leases: Iterable<HeldLease>): void {
    if (this.#holders.size === 0) return;
    this.#holders.clear();
    for (const lease of leases) if (lease.wanted !== undefined) this.begin(lease);
  }

  #ask(lease: HeldLease): void {
    for (const counter of lease.plan.counters) {
      const holders = this.#holders.get(counter);
      if (!holders?.idle.delete(lease)) continue;
      counter.idle--;
      holders.asked.add(lease);
    }
    const { wanted } = lease;
    // Callers' code: not before the counts are settled, and not if it is in use again by then.
    queueMicrotask(() => {
      if (wanted !== undefined && lease.wanted === wanted) quietly(wanted);
    });
  }

  #of(counter: Counter): Holders {
    let holders = this.#holders.get(counter);
    if (holders === undefined) {
      holders = { idle: new Set(), asked: new Set() };
      this.#holders.set(counter, holders);
    }
    return holders;
  }
}

/** Whether a slot of it that comes free helps somebody. */
function isWaitedFor({ awaited, waiting }: Counter): boolean {
  return awaited || (waiting !== undefined && waiting.parked.length + waiting.lowVolume.length > 0);
}
