// The table of counters and the waiting line as they must look from outside: naive, slow, and told what happened.
// Which queue goes next is not fixed by any law, so the model predicts no order between queues; it is told who was
// admitted and looks for an order in which the laws allow it.
import type { Explanation, LeaseInfo, LimitOption, Milliseconds, Snapshot, Target } from "../../src/index.js";

/** One slot of one counter that a target needs. */
export interface Claim {
  readonly option: LimitOption;
  /** Line of the policy text that sets the limit; undefined: the built-in default. */
  readonly line: number | undefined;
  /** The counter's name in the model; the library's own key is learned, never predicted. */
  readonly counter: string;
  readonly limit: number;
  /** Whether the reserve lifts it: the server-wide ceiling. */
  readonly lifted: boolean;
}

/** A policy with its answers, worked out by hand. */
export interface Rules {
  readonly reserve: number;
  claims(target: Target): readonly Claim[];
}

export type Admission = "go" | "reserve";

export interface Asked {
  readonly target: Target;
  readonly since: Milliseconds;
  /** Times a slot it needs was given back and it did not get to go. */
  passed: number;
}

export interface Holding {
  readonly asked: Asked;
  /** "either": both are legal, as the order in which several went at once is not fixed. */
  how: Admission | "either";
  readonly since: Milliseconds;
}

/**
 * Passed over 16 times, a request may keep single slots while it waits (law 6). The model sees releases, of which each may
 * pass it over several times, and more where the hand-over is cut. Until it was passed over so often, the counts are exact.
 */
const PATIENCE = 3;

/** Requests of one queue have the same claims; first come, first served among them (law 5). */
export function queueOf(target: Target): string {
  return target.host === undefined ? pairOf(target) : `${pairOf(target)} (${target.host})`;
}

/** What must have no open connection for the reserve to let a target in. */
function pairOf(target: Target): string {
  return `${target.binding ?? "default"} → ${target.domain}`;
}

interface Range {
  readonly least: number;
  readonly most: number;
}

interface CounterBounds {
  readonly limit: number;
  readonly inUse: Range;
  readonly waiting: Range;
  readonly oldestWait: Range;
}

function fail(law: string, what: string): never {
  throw new Error(`${law}: ${what}`);
}

function within(actual: number, { least, most }: Range, ...what: readonly string[]): void {
  if (actual >= least && actual <= most) return;
  const expected = least === most ? String(least) : `${String(least)} to ${String(most)}`;
  fail("Counts are exact", `${what.join(" ")} is ${String(actual)}, not ${expected}`);
}

/** What is open: how much of each counter, and which (binding, domain). */
interface Open {
  readonly inUse: ReadonlyMap<string, number>;
  readonly pairs: ReadonlySet<string>;
}

export class TableModel {
  rules: Rules;
  readonly held: Holding[] = [];
  /** In order of arrival. */
  readonly waiting: Asked[] = [];
  /** The library's key of a counter ↔ the model's. */
  readonly #counterOf = new Map<string, string>();
  readonly #keyOf = new Map<string, string>();
  /** Counted again after each change of `held`; only so that thousands of runs take seconds. */
  #open: Open | undefined;
  #claims = new WeakMap<Target, readonly Claim[]>();

  constructor(rules: Rules) {
    this.rules = rules;
  }

  /** Another policy from now on; the library's keys are learned anew. */
  change(rules: Rules): void {
    this.rules = rules;
    // Whether a lease admitted under another policy is the reserve's under this one is not said.
    for (const holding of this.held) holding.how = "either";
    this.#counterOf.clear();
    this.#keyOf.clear();
    this.#claims = new WeakMap();
    this.#open = undefined;
  }

  claims(target: Target): readonly Claim[] {
    const known = this.#claims.get(target);
    if (known !== undefined) return known;
    const claims = this.rules.claims(target);
    this.#claims.set(target, claims);
    return claims;
  }

  /** What would be open were `also` open as well. */
  #count(also: readonly Target[]): Open {
    if (also.length === 0 && this.#open !== undefined) return this.#open;
    const inUse = new Map<string, number>();
    const pairs = new Set<string>();
    for (const target of [...this.held.map(({ asked }) => asked.target), ...also]) {
      pairs.add(pairOf(target));
      for (const { counter } of this.claims(target)) inUse.set(counter, (inUse.get(counter) ?? 0) + 1);
    }
    const open = { inUse, pairs };
    if (also.length === 0) this.#open = open;
    return open;
  }

  /** The claims of `target` that hold it up now. A ceiling the reserve would lift for it does not. */
  blockers(target: Target, also: readonly Target[] = []): readonly Claim[] {
    const open = this.#count(also);
    return this.claims(target).filter(({ counter, limit, lifted }) => {
      const inUse = open.inUse.get(counter) ?? 0;
      if (inUse < limit) return false;
      const inReserve = lifted && limit > 0 && inUse < limit + this.rules.reserve && !open.pairs.has(pairOf(target));
      return !inReserve;
    });
  }

  /**
   * The claims of `target` that are full, lifted for it by the reserve or not. Whether a ceiling that the reserve would
   * lift "holds up" a request which another limit blocks is not said; between `blockers` and this, all is right.
   */
  full(target: Target, also: readonly Target[] = []): readonly Claim[] {
    const open = this.#count(also);
    return this.claims(target).filter(({ counter, limit }) => (open.inUse.get(counter) ?? 0) >= limit);
  }

  /** How `target` could go now; undefined: it could not. */
  admission(target: Target, also: readonly Target[] = []): Admission | undefined {
    if (this.blockers(target, also).length > 0) return undefined;
    return this.full(target, also).length === 0 ? "go" : "reserve";
  }

  /** Others who may by now keep single slots that come free. */
  keepers(asked?: Asked): readonly Target[] {
    return this.waiting.filter((other) => other !== asked && other.passed >= PATIENCE).map(({ target }) => target);
  }

  /** Nobody may keep anything yet, so every prediction is exact. */
  get exact(): boolean {
    return this.keepers().length === 0;
  }

  /** The first of each queue. */
  heads(): readonly Asked[] {
    const seen = new Set<string>();
    return this.waiting.filter(({ target }) => {
      const queue = queueOf(target);
      return !seen.has(queue) && seen.add(queue);
    });
  }

  arrive(target: Target, now: Milliseconds): Asked {
    const asked: Asked = { target, since: now, passed: 0 };
    this.waiting.push(asked);
    return asked;
  }

  leave(asked: Asked): void {
    this.waiting.splice(this.waiting.indexOf(asked), 1);
  }

  /** A lease comes back. Whoever still waits after the hand-over and needed one of its slots was passed over. */
  drop(holding: Holding): void {
    this.held.splice(this.held.indexOf(holding), 1);
    this.#open = undefined;
    this.pass(holding.asked.target);
  }

  /** Slots of `target` were given back, or may have been: whoever waits for some of them may be passed over at each. */
  pass(target: Target): void {
    const freed = new Set(this.claims(target).map(({ counter }) => counter));
    for (const asked of this.waiting) {
      asked.passed += this.claims(asked.target).filter(({ counter }) => freed.has(counter)).length;
    }
  }

  /**
   * These were admitted. Throws if there is no order in which each was the first of its queue and had room in all of
   * its counters.
   * @param ghost a request that was aborted in the same tick: it may have been handed its slots and have returned them
   */
  settle(admitted: readonly Asked[], now: Milliseconds, ghost?: Asked): void {
    const held = [...this.held];
    const waiting = [...this.waiting];
    const place = (forced?: { asked: Asked; how: Admission }): boolean => {
      this.held.splice(0, Infinity, ...held);
      this.waiting.splice(0, Infinity, ...waiting);
      this.#open = undefined;
      return this.#place(new Set(admitted), now, ghost, [], forced);
    };
    const either = new Set<Asked>();
    if (this.rules.reserve > 0 && admitted.length + (ghost === undefined ? 0 : 1) > 1) {
      for (const asked of admitted) {
        if (place({ asked, how: "go" }) && place({ asked, how: "reserve" })) either.add(asked);
      }
    }
    if (!place()) {
      const wanted = admitted.map(({ target }) => queueOf(target)).join(", ");
      fail("Never over, all or nothing, first come first served", `there is no legal order to admit ${wanted}`);
    }
    for (const holding of this.held) if (either.has(holding.asked)) holding.how = "either";
  }

  #place(
    left: Set<Asked>,
    now: Milliseconds,
    ghost: Asked | undefined,
    haunting: readonly Target[],
    forced?: { readonly asked: Asked; readonly how: Admission },
  ): boolean {
    if (left.size === 0) {
      if (ghost !== undefined && this.waiting.includes(ghost)) this.leave(ghost);
      return true;
    }
    for (const asked of this.heads()) {
      const how = this.admission(asked.target, haunting);
      if (how === undefined) continue;
      const at = this.waiting.indexOf(asked);
      if (asked === ghost) {
        this.waiting.splice(at, 1);
        if (this.#place(left, now, undefined, [asked.target], forced)) return true;
        this.waiting.splice(at, 0, asked);
      } else if (left.has(asked) && (forced?.asked !== asked || forced.how === how)) {
        this.waiting.splice(at, 1);
        this.held.push({ asked, how, since: now });
        this.#open = undefined;
        left.delete(asked);
        if (this.#place(left, now, ghost, haunting, forced)) return true;
        left.add(asked);
        this.held.pop();
        this.#open = undefined;
        this.waiting.splice(at, 0, asked);
      }
    }
    // The ghost gives back what it had, or leaves without having had anything.
    if (haunting.length > 0) return this.#place(left, now, undefined, [], forced);
    if (ghost === undefined) return false;
    const at = this.waiting.indexOf(ghost);
    this.waiting.splice(at, 1);
    if (this.#place(left, now, undefined, [], forced)) return true;
    this.waiting.splice(at, 0, ghost);
    return false;
  }

  /** Law 3. Called after every operation. */
  checkNoSlotIdles(): void {
    for (const asked of this.heads()) {
      const how = this.admission(asked.target, this.keepers(asked));
      if (how !== undefined) fail("No slot idles", `${queueOf(asked.target)} has room ("${how}") and waits`);
    }
  }

  /** Learns the library's keys from an explanation, or holds it to what was learned; then compares the counts. */
  checkExplanation(explanation: Explanation, now: Milliseconds): void {
    const { target } = explanation;
    const claims = this.claims(target);
    const limits = explanation.limits.filter(({ limit }) => Number.isFinite(limit) && limit >= 0);
    const bounds = this.#bounds(now);
    const claimed = new Set<Claim>();
    for (const { option, setAt, key, ...counts } of limits) {
      const claim = claims.find((other) => other.option === option && other.line === setAt?.line);
      if (claim === undefined || claimed.has(claim)) fail("Claims", `${list(limits)}; not ${list(claims)}`);
      claimed.add(claim);
      this.#learn(key, claim.counter);
      this.#compare(counts, bounds(claim), "explain()", key);
    }
    if (claimed.size < claims.length) fail("Claims", `${list(limits)}; not ${list(claims)}`);
    const queued = this.waiting.some((asked) => queueOf(asked.target) === queueOf(target));
    const verdicts = queued
      ? ["wait"]
      : [this.admission(target) ?? "wait", this.admission(target, this.keepers()) ?? "wait"];
    if (queued && this.exact && this.admission(target) !== undefined) fail("No slot idles", queueOf(target));
    if (!verdicts.includes(explanation.verdict)) {
      fail("explain", `${queueOf(target)} is said to "${explanation.verdict}", not "${verdicts.join('" or "')}"`);
    }
  }

  checkSnapshot(snapshot: Snapshot, now: Milliseconds): void {
    within(snapshot.leases, exactly(this.held.length), "snapshot().leases");
    within(snapshot.waiting, exactly(this.waiting.length), "snapshot().waiting");
    within(snapshot.reserve.limit, exactly(this.rules.reserve), "snapshot().reserve.limit");
    const least = this.held.filter(({ how }) => how === "reserve").length;
    const most = this.held.filter(({ how }) => how !== "go").length;
    within(snapshot.reserve.inUse, { least, most }, "snapshot().reserve.inUse");

    const claims = new Map<string, Claim>();
    for (const { target } of [...this.held.map(({ asked }) => asked), ...this.waiting]) {
      for (const claim of this.claims(target)) claims.set(claim.counter, claim);
    }
    const bounds = this.#bounds(now);
    const listed = new Set<string>();
    for (const { key, ...counts } of snapshot.counters) {
      if (!Number.isFinite(counts.limit) || counts.limit < 0) continue;
      const counter = this.#counterOf.get(key);
      const claim = counter === undefined ? undefined : claims.get(counter);
      if (claim === undefined) fail("Counters vanish", `${key} exists, and nobody holds it or waits on it`);
      if (listed.has(claim.counter)) fail("snapshot", `${key} is listed twice`);
      listed.add(claim.counter);
      this.#compare(counts, bounds(claim), "snapshot()", key);
    }
    for (const claim of claims.values()) {
      const { inUse, waiting } = bounds(claim);
      if (inUse.least + waiting.least > 0 && !listed.has(claim.counter))
        fail("snapshot", `${claim.counter} is missing`);
    }
  }

  checkLeases(leases: Iterable<LeaseInfo>, now: Milliseconds): void {
    const row = (target: Target, heldFor: Milliseconds, counters: readonly string[]): string =>
      `${String(heldFor)} ${queueOf(target)} ${counters.toSorted().join(" ")}`;
    const actual = [...leases];
    if (actual.some(({ heldFor }, at) => heldFor > (actual[at - 1]?.heldFor ?? Infinity))) {
      fail("leases", "they do not come oldest first");
    }
    const rows = actual.map(({ target, heldFor, counters }) => {
      const finite = counters.filter((key) => this.#counterOf.has(key));
      return row(target, heldFor, finite);
    });
    const expected = this.held.map(({ asked: { target }, since }) => {
      const keys = this.claims(target).map(({ counter }) => this.#keyOf.get(counter) ?? `unknown ${counter}`);
      return row(target, now - since, keys);
    });
    if (rows.toSorted().join("\n") !== expected.toSorted().join("\n")) {
      fail("leases", `there are\n${rows.join("\n")}\nnot\n${expected.join("\n")}`);
    }
  }

  /** A key stands for one counter and a counter has one key. */
  #learn(key: string, counter: string): void {
    if ((this.#counterOf.get(key) ?? counter) !== counter) {
      fail("Claims", `${key} is one counter for ${counter} and ${String(this.#counterOf.get(key))}`);
    }
    if ((this.#keyOf.get(counter) ?? key) !== key) {
      fail("Claims", `${counter} is counted apart in ${key} and ${String(this.#keyOf.get(counter))}`);
    }
    this.#counterOf.set(key, counter);
    this.#keyOf.set(counter, key);
  }

  #compare(
    actual: { limit: number; inUse: number; waiting: number; oldestWait: Milliseconds },
    expected: CounterBounds,
    ...what: readonly string[]
  ): void {
    within(actual.limit, exactly(expected.limit), ...what, "limit");
    within(actual.inUse, expected.inUse, ...what, "inUse");
    within(actual.waiting, expected.waiting, ...what, "waiting");
    within(actual.oldestWait, expected.oldestWait, ...what, "oldestWait");
  }

  /** What may be read on each counter. As long as the model is `exact`, `full` alone makes a range of more than one. */
  #bounds(now: Milliseconds): (claim: Claim) => CounterBounds {
    const open = this.#count([]);
    const keepers = this.keepers();
    const waiting = this.waiting.map((asked) => {
      const counters = (claims: readonly Claim[]): Set<string> => new Set(claims.map(({ counter }) => counter));
      const maybe = counters(this.full(asked.target, keepers.length === 0 ? [] : this.keepers(asked)));
      // A slot a request keeps does not hold that request up.
      const surely = asked.passed < PATIENCE ? counters(this.blockers(asked.target)) : new Set<string>();
      return { waited: now - asked.since, surely, maybe };
    });
    const oldest = (among: readonly { waited: Milliseconds }[]): Milliseconds =>
      among.reduce((most, { waited }) => Math.max(most, waited), 0);
    return ({ counter, limit, lifted }) => {
      const inUse = open.inUse.get(counter) ?? 0;
      const ceiling = lifted ? limit + this.rules.reserve : limit;
      const kept = keepers.filter((target) => this.claims(target).some((other) => other.counter === counter)).length;
      const surely = waiting.filter((asked) => asked.surely.has(counter));
      const maybe = waiting.filter((asked) => asked.maybe.has(counter));
      return {
        limit,
        inUse: { least: inUse, most: Math.max(inUse, Math.min(inUse + kept, ceiling)) },
        waiting: { least: surely.length, most: maybe.length },
        oldestWait: { least: oldest(surely), most: oldest(maybe) },
      };
    };
  }
}

function exactly(value: number): Range {
  return { least: value, most: value };
}

function list(limits: readonly Pick<Claim, "option" | "limit">[]): string {
  return limits.map(({ option, limit }) => `${option} = ${String(limit)}`).join(", ");
}
