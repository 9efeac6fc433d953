// Resolution against a naive resolver written separately from the rules (test/model/naive-resolver.ts), on random policies
// and targets. FUZZ_RUNS sets the number of runs (default 2000), of which each property gets a fixed share; a failure prints
// fast-check's seed and path, to be given to fc.assert to see it again.
/* oxlint-disable vitest/expect-expect, vitest/no-conditional-expect -- fc.assert asserts; what is expected depends on what was drawn */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  createLimiter,
  definePolicy,
  type Explanation,
  type LocalLimiter,
  type Policy,
  type PolicyInput,
  parsePolicy,
  type Target,
} from "../../src/index.js";
import { type NaiveLimit, naiveResolve, naiveVerdict, resolvedBinding, WrongGroup } from "../model/naive-resolver.js";
import { policyArbitrary, printed, styleArbitrary, targetArbitrary } from "./drawing.js";

const fuzzRuns = Number(process.env["FUZZ_RUNS"] ?? 2000);
const runs = (share: number) => ({ numRuns: Math.max(1, Math.round(fuzzRuns * share)) });
const timeout = 30_000 + fuzzRuns * 100;

/** With a cache far smaller than the names drawn: forgetting must change no answer, and a small one is made faster. */
const limiterOf = (policy: Policy) => createLimiter(policy, { matchCacheSize: 4 });

const targets = fc.array(targetArbitrary(), { minLength: 1, maxLength: 6 });

/** The limits of the naive resolver, or undefined for a target whose group contradicts the policy. */
function expectedLimits(policy: PolicyInput, target: Target): NaiveLimit[] | undefined {
  try {
    return naiveResolve(policy, target);
  } catch (error) {
    if (error instanceof WrongGroup) return undefined;
    throw error;
  }
}

interface Row {
  readonly option: string;
  readonly limit: number;
  readonly scope: string;
}
function sorted(rows: Row[]): Row[] {
  const words = (row: Row) => `${row.option} ${row.scope} ${row.limit}`;
  return rows.toSorted((one, other) => (words(one) < words(other) ? -1 : 1));
}

/** What applies, as a multiset; the reserve is no counter of its own. */
function rowsOf(explanation: Explanation): Row[] {
  const claims = explanation.limits.filter((limit) => limit.option !== "server_reserve_outbound_connections");
  return sorted(claims.map(({ option, limit, setAt }) => ({ option, limit, scope: setAt?.scope ?? "default" })));
}
function naiveRows(limits: readonly NaiveLimit[]): Row[] {
  return sorted(limits.map(({ option, limit, scope }) => ({ option, limit, scope: scope ?? "default" })));
}

/** Each limit of the explanation beside the naive resolver's. Option and scope name one: no target has two of the same. */
function paired(explanation: Explanation, limits: readonly NaiveLimit[]) {
  return limits.map((naive) => {
    const same = explanation.limits.filter(
      (limit) => limit.option === naive.option && limit.setAt?.scope === naive.scope,
    );
    expect(same).toHaveLength(1);
    return { naive, key: same[0]?.key ?? "" };
  });
}

describe("explain", () => {
  test("lists the limits that the naive resolver finds, and refuses the targets it refuses", { timeout }, () => {
    fc.assert(
      fc.property(policyArbitrary(), targets, (input, drawn) => {
        const limiter = limiterOf(definePolicy(input));
        for (const target of drawn) {
          const expected = expectedLimits(input, target);
          if (expected === undefined) {
            expect(() => limiter.explain(target)).toThrow(TypeError);
            expect(() => limiter.tryAcquire(target)).toThrow(TypeError);
            continue;
          }
          const explanation = limiter.explain(target);
          expect(rowsOf(explanation)).toEqual(naiveRows(expected));
          expect(explanation.verdict).toBe(naiveVerdict(input, [], target));
          // Nobody holds or waits; and of those looked at, one is where the limit was set.
          const odd = explanation.limits.filter(({ inUse, waiting, oldestWait, setAt, lookedAt, limit }) => {
            const found = setAt === undefined || lookedAt.some((at) => at.scope === setAt.scope && at.limit === limit);
            return inUse + waiting + oldestWait !== 0 || !found;
          });
          expect(odd).toEqual([]);
        }
        // Asking leaves nothing behind.
        expect(limiter.snapshot()).toMatchObject({ leases: 0, waiting: 0, counters: [] });
      }),
      runs(1),
    );
  });

  test("gives equal keys exactly to those that share a counter, and equal keys have equal limits", { timeout }, () => {
    fc.assert(
      fc.property(policyArbitrary(), targets, (input, drawn) => {
        const limiter = limiterOf(definePolicy(input));
        const known = drawn.flatMap((target) => {
          const expected = expectedLimits(input, target);
          return expected ? [{ target, pairs: paired(limiter.explain(target), expected) }] : [];
        });
        for (const one of known) {
          for (const other of known) {
            // The rules count "per (binding, domain)" and do not say whether a binding the policy never mentions is one
            // binding when callers put it into two groups. Either will do, as long as equal keys have equal limits.
            const [mineAt, theirsAt] = [resolvedBinding(input, one.target), resolvedBinding(input, other.target)];
            const open = mineAt.binding === theirsAt.binding && mineAt.group !== theirsAt.group;
            for (const mine of one.pairs) {
              for (const theirs of other.pairs) {
                const shares = mine.naive.counter === theirs.naive.counter;
                const sameKey = mine.key === theirs.key;
                const right = sameKey === shares || (open && !shares);
                if (!right || (sameKey && mine.naive.limit !== theirs.naive.limit)) {
                  expect.fail(`sameKey ${sameKey}, shares ${shares}: ${JSON.stringify([mine, theirs], null, 1)}`);
                }
              }
            }
          }
        }
      }),
      runs(0.5),
    );
  });
});

describe("parsePolicy and definePolicy", () => {
  /** Everything explain() says but where in the text it was; and the reserve. */
  const answers = (policy: Policy, drawn: readonly Target[]) => {
    const limiter = limiterOf(policy);
    const explained = drawn.map((target) => {
      try {
        const { verdict, limits } = limiter.explain(target);
        return { verdict, limits: limits.map(({ setAt, ...limit }) => ({ ...limit, scope: setAt?.scope })) };
      } catch (error) {
        expect(error).toBeInstanceOf(TypeError);
        return "TypeError";
      }
    });
    return { explained, reserve: limiter.snapshot().reserve };
  };

  test("give equal policies for the same data, whichever way the text is written", { timeout }, () => {
    fc.assert(
      fc.property(policyArbitrary(), targets, styleArbitrary, (input, drawn, style) => {
        const parsed = parsePolicy(printed(input, style));
        const looks = ["unreachable", "bad-value", "bad-pattern"];
        expect(parsed.warnings.filter((warning) => !looks.includes(warning.rule))).toEqual([]);
        expect(answers(parsed, drawn)).toEqual(answers(definePolicy(input), drawn));
      }),
      runs(0.5),
    );
  });

  test("round trip: String(policy) parses to an equal policy", { timeout }, () => {
    fc.assert(
      fc.property(policyArbitrary(), targets, styleArbitrary, (input, drawn, style) => {
        for (const policy of [definePolicy(input), parsePolicy(printed(input, style))]) {
          const text = String(policy);
          const again = parsePolicy(text);
          expect(String(again)).toBe(text);
          expect(answers(again, drawn)).toEqual(answers(policy, drawn));
        }
      }),
      runs(0.4),
    );
  });

  test("leave the input alone and freeze the policy", () => {
    fc.assert(
      fc.property(policyArbitrary(), (input) => {
        const before = JSON.stringify(input);
        const policy = definePolicy(input);
        expect(JSON.stringify(input)).toBe(before);
        expect(Object.isFrozen(policy)).toBe(true);
      }),
      runs(0.05),
    );
  });
});

describe("tryAcquire", () => {
  type Step = { readonly target: Target } | { readonly release: number };
  const steps: fc.Arbitrary<Step[]> = fc.array(
    fc.oneof(
      { weight: 3, arbitrary: fc.record({ target: targetArbitrary({ groups: false }) }) },
      { weight: 1, arbitrary: fc.record({ release: fc.nat(50) }) },
    ),
    { maxLength: 40 },
  );
  // Few slots everywhere, so that the limits of all kinds, and the reserve, are met.
  const tight = fc.constantFrom(-1, 0, 1, 1, 2, 2, 3, 4, 6);

  interface Held {
    readonly target: Target;
    readonly release: () => void;
  }
  const play = (limiter: LocalLimiter, policy: PolicyInput, drawn: readonly Step[]): Held[] => {
    const held: Held[] = [];
    for (const step of drawn) {
      if ("release" in step) {
        const [lease] = held.splice(step.release % Math.max(1, held.length), 1);
        lease?.release();
        continue;
      }
      const open = held.map((lease) => lease.target);
      const verdict = naiveVerdict(policy, open, step.target);
      expect(limiter.explain(step.target).verdict).toBe(verdict);
      const lease = limiter.tryAcquire(step.target);
      expect(lease !== undefined).toBe(verdict !== "wait");
      if (lease) held.push(lease);
    }
    return held;
  };
  /** Every counter of these targets holds what counting by hand says. */
  const expectCounts = (limiter: LocalLimiter, policy: PolicyInput, held: readonly Held[]) => {
    const claimed = held.map((lease) => naiveResolve(policy, lease.target));
    const byCounter = new Map<string, number>();
    for (const limit of claimed.flat()) byCounter.set(limit.counter, (byCounter.get(limit.counter) ?? 0) + 1);
    const byKey = new Map<string, number>();
    held.forEach((lease, index) => {
      const explanation = limiter.explain(lease.target);
      for (const { naive, key } of paired(explanation, claimed[index] ?? [])) {
        const inUse = explanation.limits.find((limit) => limit.key === key)?.inUse;
        expect([naive, inUse]).toEqual([naive, byCounter.get(naive.counter)]);
        byKey.set(key, inUse ?? 0);
      }
    });
    const snapshot = limiter.snapshot();
    expect(snapshot.leases).toBe(held.length);
    const counted = snapshot.counters.filter((counter) => byKey.has(counter.key));
    expect(new Map(counted.map((counter) => [counter.key, counter.inUse]))).toEqual(byKey);
  };
  const expectNothing = (limiter: LocalLimiter, held: readonly Held[]) => {
    for (const lease of held) lease.release();
    expect(limiter.snapshot()).toMatchObject({ leases: 0, waiting: 0, counters: [], reserve: { inUse: 0 } });
  };

  test("admits exactly what counting by hand admits, the reserve included", { timeout }, () => {
    fc.assert(
      fc.property(policyArbitrary(tight), steps, (input, drawn) => {
        const limiter = limiterOf(definePolicy(input));
        const held = play(limiter, input, drawn);
        expectCounts(limiter, input, held);
        expectNothing(limiter, held);
      }),
      runs(0.5),
    );
  });

  test("goes on after update() as if the new policy had been there from the start", { timeout }, () => {
    fc.assert(
      fc.property(policyArbitrary(), steps, policyArbitrary(tight), targets, (before, drawn, after, asked) => {
        const limiter = limiterOf(definePolicy(before));
        const held = play(limiter, before, drawn);
        limiter.update(definePolicy(after));
        expectCounts(limiter, after, held);
        const open = held.map((lease) => lease.target);
        for (const { bindingGroup: _, ...target } of asked) {
          expect(limiter.explain(target).verdict).toBe(naiveVerdict(after, open, target));
        }
        expectNothing(limiter, held);
      }),
      runs(0.5),
    );
  });
});
