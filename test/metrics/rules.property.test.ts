// Which option and which scope a counter belongs to, read from its key: against `explain`, for random policies, and for
// names that try to look like a part of the key. FUZZ_RUNS=10000 runs ten times as many as usual.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createLimiter, definePolicy, type Explanation, type LocalLimiter, type Target } from "../../src/index.js";
import { ruleOf } from "../../src/metrics/book.js";
import { policyArbitrary, targetArbitrary } from "../semantics/drawing.js";

const scale = Number(process.env["FUZZ_RUNS"] ?? 1000) / 1000;
const numRuns = Math.max(1, Math.round(200 * scale));
const timeout = 60_000 + 60_000 * scale;

/** What is asked, or undefined for a target whose group contradicts the policy. */
function explained(limiter: LocalLimiter, target: Target): Explanation | undefined {
  try {
    return limiter.explain(target);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** Words that stand in keys and in paths, and names made of their signs. */
const lookAlikes = ["@", "global", "domain", 'domain"x"', "built-in", "default", "binding", '"', "›", "@@", "host"];

describe("ruleOf", () => {
  test("is the option and the scope that explain names, one for each limit of a target", { timeout }, () => {
    const targets = fc.array(targetArbitrary(), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(policyArbitrary(), targets, (input, drawn) => {
        const limiter = createLimiter(definePolicy(input));
        const limitOf = new Map<string, number>();
        for (const target of drawn) {
          const limits = explained(limiter, target)?.limits ?? [];
          for (const { key, option, setAt, limit } of limits) {
            const rule = ruleOf(key);
            expect(rule, key).toEqual({ option, scope: setAt?.scope ?? "built-in default" });
            const id = JSON.stringify(rule);
            expect(limit, id).toBe(limitOf.get(id) ?? limit);
            limitOf.set(id, limit);
          }
          expect(new Set(limits.map(({ key }) => JSON.stringify(ruleOf(key)))).size).toBe(limits.length);
        }
      }),
      { numRuns },
    );
  });

  test("is not misled by names that look like parts of a key", { timeout }, () => {
    const name = fc.constantFrom(...lookAlikes);
    const limits = { max_outbound_connections: 3, scope_max_outbound_connections: 4 };
    const stanza = fc.oneof(name, fc.constantFrom('/ @ global$|"/', "/x @ built-in default/", '/@ domain "/'));
    // A domain in quotes is no name that a policy can hold, but one that a target can.
    const places = fc.record({ binding: name, domain: stanza, host: stanza, group: name });
    const target = fc.record({ binding: name, domain: name, host: name }).filter(({ domain, host }) => {
      return !domain.startsWith("›") && !host.startsWith("›");
    });
    fc.assert(
      fc.property(places, fc.array(target, { minLength: 1, maxLength: 4 }), fc.boolean(), (at, drawn, isGlobal) => {
        const inner = { domain: { [at.domain]: limits }, host: { [at.host]: limits } };
        const policy = definePolicy({
          ...(isGlobal && { server_max_outbound_connections: 9 }),
          ...inner,
          binding: { [at.binding]: { server_max_outbound_connections: 8, cluster_max_outbound_connections: 7 } },
          binding_group: { [at.group]: { ...limits, ...inner } },
        });
        const limiter = createLimiter(policy);
        for (const target of drawn) {
          for (const { key, option, setAt } of limiter.explain(target).limits) {
            expect(ruleOf(key), key).toEqual({ option, scope: setAt?.scope ?? "built-in default" });
          }
        }
      }),
      { numRuns },
    );
  });

  test("knows no other keys", () => {
    expect(ruleOf("max_outbound_connections|mta-1|gmail.com")).toBeUndefined();
    expect(ruleOf("max_outbound_connections mta-1 gmail.com @ somewhere")).toBeUndefined();
  });
});
