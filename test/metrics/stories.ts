// Random stories of a limiter for the tests of the metrics, with an account kept from outside: from what its callers are
// given and from snapshot() and explain(), not from its events.
import fc from "fast-check";
import {
  createLimiter,
  definePolicy,
  isLimiterError,
  type Lease,
  type LocalLimiter,
  type Milliseconds,
  type Policy,
  type Target,
} from "../../src/index.js";
import { VirtualClock } from "../model/clock.js";
import { policyArbitrary, targetArbitrary } from "../semantics/drawing.js";
import { turn } from "../table/open.js";

type Move =
  | { readonly do: "acquire"; readonly target: number; readonly timeout?: Milliseconds | undefined }
  | { readonly do: "release"; readonly lease: number }
  | { readonly do: "abort"; readonly request: number }
  | { readonly do: "advance"; readonly by: Milliseconds }
  | { readonly do: "update"; readonly policy: number };

/** One option written in one scope, as explain() names it. */
interface Rule {
  readonly option: string;
  readonly scope: string;
}

/** The numbers of one rule, or of a series with its labels. */
export interface Standing {
  limit: number;
  inUse: number;
  fullest: number;
  fullCounters: number;
  waiting: number;
  oldestWait: Milliseconds;
}

/** What the callers of a limiter were told. */
export interface Told {
  granted: number;
  waitedForLeases: Milliseconds;
  waitedInVain: Milliseconds;
  released: number;
  held: Milliseconds;
  updates: number;
  readonly refusals: Map<string, number>;
}

export class Story {
  readonly clock: VirtualClock = new VirtualClock();
  readonly limiter: LocalLimiter;
  readonly told: Told = {
    granted: 0,
    waitedForLeases: 0,
    waitedInVain: 0,
    released: 0,
    held: 0,
    updates: 0,
    refusals: new Map(),
  };
  readonly #policies: readonly Policy[];
  readonly #targets: readonly Target[];
  readonly #leases: { readonly lease: Lease; readonly since: Milliseconds }[] = [];
  readonly #waiting = new Set<AbortController>();

  constructor({ policies, targets }: Drawn) {
    this.#policies = policies;
    this.#targets = targets;
    this.limiter = createLimiter(policies[0] as Policy, { clock: this.clock, maxWaiting: 12, matchCacheSize: 4 });
  }

  async play(move: Move): Promise<void> {
    if (move.do === "acquire") this.#acquire(this.#targets[move.target % this.#targets.length] as Target, move.timeout);
    else if (move.do === "release") this.#release(move.lease);
    else if (move.do === "abort")
      [...this.#waiting][move.request % (this.#waiting.size || 1)]?.abort(new Error("enough"));
    else if (move.do === "advance") this.clock.advance(move.by);
    else {
      this.limiter.update(this.#policies[move.policy % this.#policies.length] as Policy);
      this.told.updates++;
    }
    await turn();
  }

  #acquire(target: Target, timeout: Milliseconds | undefined): void {
    const controller = new AbortController();
    this.#waiting.add(controller);
    const asked = this.clock.now();
    this.limiter.acquire(target, { timeout, signal: controller.signal }).then(
      (lease) => {
        this.#waiting.delete(controller);
        this.#leases.push({ lease, since: this.clock.now() });
        this.told.granted++;
        this.told.waitedForLeases += lease.waited;
      },
      (error: unknown) => {
        this.#waiting.delete(controller);
        const code = isLimiterError(error) ? error.code : "aborted";
        this.told.refusals.set(code, (this.told.refusals.get(code) ?? 0) + 1);
        // Whoever looks at the clock after an advance is late for a timeout in the middle of it.
        const { waited = this.clock.now() - asked } = error as { readonly waited?: Milliseconds };
        this.told.waitedInVain += waited;
      },
    );
  }

  #release(index: number): void {
    const [held] = this.#leases.splice(index % (this.#leases.length || 1), 1);
    if (held === undefined) return;
    held.lease.release();
    this.told.released++;
    this.told.held += this.clock.now() - held.since;
  }

  /** The rules of the policy in force that these targets can meet, each with how it stands. */
  standings(): Map<string, Standing> {
    const ruleOf = new Map<string, Rule>();
    const standings = new Map<string, Standing>();
    for (const target of this.#targets) {
      for (const { key, option, setAt, limit } of this.limiter.explain(target).limits) {
        const rule = { option, scope: setAt?.scope ?? "built-in default" };
        ruleOf.set(key, rule);
        const idle = { limit, inUse: 0, fullest: 0, fullCounters: 0, waiting: 0, oldestWait: 0 };
        standings.set(idOf(rule), idle);
      }
    }
    for (const { key, limit, inUse, waiting, oldestWait } of this.limiter.snapshot().counters) {
      const standing = standings.get(idOf(ruleOf.get(key) as Rule)) as Standing;
      standing.inUse += inUse;
      standing.fullest = Math.max(standing.fullest, inUse);
      standing.fullCounters += inUse >= limit ? 1 : 0;
      standing.waiting += waiting;
      standing.oldestWait = Math.max(standing.oldestWait, oldestWait);
    }
    return standings;
  }
}

export const idOf = ({ option, scope }: { readonly option?: unknown; readonly scope?: unknown }): string =>
  `${String(option)} in ${String(scope)}`;

interface Drawn {
  readonly policies: readonly Policy[];
  readonly targets: readonly Target[];
  readonly moves: readonly Move[];
}

const index = fc.nat(1000);

const moves: readonly fc.WeightedArbitrary<Move>[] = [
  {
    weight: 12,
    arbitrary: fc.record(
      { do: fc.constant("acquire" as const), target: index, timeout: fc.constantFrom(0, 10, 25, Infinity) },
      { requiredKeys: ["do", "target"] },
    ),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("release" as const), lease: index }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("abort" as const), request: index }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("advance" as const), by: fc.constantFrom(1, 7, 30) }) },
];
const update: fc.WeightedArbitrary<Move> = {
  weight: 2,
  arbitrary: fc.record({ do: fc.constant("update" as const), policy: index }),
};

/** A few policies with small limits, a few targets, and what is done with them. */
export function stories({ withUpdates }: { readonly withUpdates: boolean }): fc.Arbitrary<Drawn> {
  const policies = policyArbitrary(fc.integer({ min: 0, max: 3 })).map((input) => definePolicy(input));
  return fc.record({
    policies: fc.array(policies, { minLength: 2, maxLength: 3 }),
    targets: fc.array(targetArbitrary({ groups: false }), { minLength: 1, maxLength: 5 }),
    moves: fc.array(fc.oneof(...moves, ...(withUpdates ? [update] : [])), { maxLength: 40, size: "max" }),
  });
}
