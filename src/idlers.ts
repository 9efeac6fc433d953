// Connections that are open and unused, as in a pool: asked to end when they are in somebody's way.

import { type Counter, type Plan, surplusOf } from "./core/plan.js";
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
 * more are asked than requests wait or slots are held above the limit.
 */
export class Idlers {
  readonly #holders = new Map<Counter, Holders>();
  #isClosing = false;

  /** A lease is idle from now on, until it ends or is busy. */
  begin(lease: HeldLease): void {
    const pressed: Counter[] = [];
    for (const counter of lease.plan.counters) {
      if (counter.limit === Number.POSITIVE_INFINITY) continue;
      this.#of(counter).idle.add(lease);
      counter.idle++;
      if (isPressed(counter)) pressed.push(counter);
    }
    if (this.#isClosing) this.#ask(lease);
    else this.ask(pressed);
  }

  /** A lease is given back, or in use again: then somebody else may have to be asked. */
  end(lease: HeldLease): void {
    lease.wanted = undefined;
    const pressed: Counter[] = [];
    for (const counter of lease.plan.counters) {
      const holders = this.#holders.get(counter);
      if (holders === undefined) continue;
      if (holders.idle.delete(lease)) counter.idle--;
      if (holders.asked.delete(lease) && isPressed(counter)) pressed.push(counter);
      if (holders.idle.size + holders.asked.size === 0) this.#holders.delete(counter);
    }
    this.ask(pressed);
  }

  /** Asks as many of the idle leases of some counters as have to end, and empties the set. */
  ask(counters: Iterable<Counter> & { clear?: () => void }): void {
    for (const counter of counters) {
      const holders = this.#holders.get(counter);
      if (holders === undefined) continue;
      // How many wait in other processes is not known: one after the other.
      const wanted = surplusOf(counter) + Math.max(counter.wanted, counter.awaited ? 1 : 0);
      for (const lease of holders.idle) {
        if (holders.asked.size >= wanted) break;
        this.#ask(lease);
      }
    }
    counters.clear?.();
  }

  /** All idle leases are asked, now and from now on. */
  close(leases: Iterable<HeldLease>): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    const asked = this.#asked();
    for (const lease of leases) if (lease.wanted !== undefined && !asked.has(lease)) this.#ask(lease);
  }

  /** Whether more leases of a limit are held than it allows, those not counted that were asked to end. */
  hasSurplus({ counters }: Plan): boolean {
    return counters.some((counter) => surplusOf(counter) > (this.#holders.get(counter)?.asked.size ?? 0));
  }

  /** The leases have other counters now. */
  carryOver(leases: Iterable<HeldLease>): void {
    const asked = this.#asked();
    this.#holders.clear();
    for (const lease of asked) for (const counter of lease.plan.counters) this.#of(counter).asked.add(lease);
    for (const lease of leases) if (lease.wanted !== undefined && !asked.has(lease)) this.begin(lease);
  }

  #asked(): Set<HeldLease> {
    return new Set([...this.#holders.values()].flatMap((holders) => [...holders.asked]));
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
      if (wanted !== undefined && lease.wanted === wanted) quietly(wanted, warn);
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

/** A connection that is not closed keeps its slot from whoever waits: its owner has to know. */
function warn(error: unknown): void {
  process.emitWarning(`What an idle lease calls to end throws: ${String(error)}`, { code: "OUTBOUND_LIMITER_IDLE" });
}

/** Whether it helps if a lease of it ends. */
function isPressed(counter: Counter): boolean {
  const { awaited, waiting } = counter;
  return (
    awaited || (waiting !== undefined && waiting.parked.length + waiting.lowVolume.length > 0) || surplusOf(counter) > 0
  );
}
