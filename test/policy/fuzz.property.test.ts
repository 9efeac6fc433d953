// Whatever the text or the object: a policy, or issues that point into it. Whatever parses prints as text that parses to
// the same policy. FUZZ_RUNS sets the number of runs (default 2000); a failure prints fast-check's seed and path.
/* oxlint-disable vitest/expect-expect -- fc.assert asserts */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  createLimiter,
  definePolicy,
  type ParseOptions,
  type Policy,
  PolicyError,
  type PolicyInput,
  parsePolicy,
} from "../../src/index.js";
import { type Issue, textAt, underlined } from "./reading.js";
import { BINDINGS, DOMAINS, policies, slips, texts, withSlips, written } from "./writing.js";

const fuzzRuns = Number(process.env["FUZZ_RUNS"] ?? 2000);
const runs = (share: number) => ({ numRuns: Math.max(1, Math.round(fuzzRuns * share)) });
const timeout = 30_000 + fuzzRuns * 100;

const MOST_ISSUES = 50;
const WIDEST = 250;
const LONGEST_MESSAGE = 1000;
const unknown = fc.constantFrom<ParseOptions["unknown"] & string>("error", "ignore");

function must(holds: boolean, what: string, where: unknown): void {
  if (!holds) throw new Error(`${what}: ${JSON.stringify(where)}`);
}

/** Without the difference that hiding control characters makes. */
const visible = (text: string): string => text.replace(/[\p{Cc}\ufffd]/gu, "?");

function checkIssue(issue: Issue, text: string): void {
  const { line, column, excerpt, message, help = "", source } = issue;
  const lines = text.split("\n");
  must(source === "fuzz", "another source", issue);
  must(Number.isInteger(line) && line >= 1 && line <= lines.length, "a line outside the text", issue);
  must(
    Number.isInteger(column) && column >= 1 && column <= lines[line - 1]!.length + 1,
    "a column outside the line",
    issue,
  );
  must(
    excerpt.split("\n").every((shown) => shown.length <= WIDEST),
    "an excerpt that is too wide",
    issue,
  );
  must(
    visible(textAt(text, issue)).startsWith(visible(underlined(excerpt))),
    "a caret under other words than the position's",
    issue,
  );
  must(message !== "" && message.length + help.length <= LONGEST_MESSAGE, "a message that is empty or too long", issue);
  must(!/[^\P{Cc}\n\t]/u.test(message + help + excerpt), "a control character", issue);
}

/** The policy, or undefined for one that was refused as it should be. */
function parsed(text: string, options: ParseOptions): Policy | undefined {
  try {
    const policy = parsePolicy(text, { source: "fuzz", ...options });
    for (const warning of policy.warnings) checkIssue(warning, text);
    return policy;
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    const { issues } = error;
    must(issues.length >= 1 && issues.length <= MOST_ISSUES, "no issues or too many", issues.length);
    for (const issue of issues) checkIssue(issue, text);
    const places = issues.map(({ line, column }) => line * 2 ** 30 + column);
    must(
      places.every((place, index) => index === 0 || place >= places[index - 1]!),
      "issues out of order",
      issues,
    );
    return undefined;
  }
}

/** Whether it is about what the policy means, however it is written. */
const deservesALook = ({ rule }: Issue): boolean => ["unreachable", "bad-value", "bad-pattern"].includes(rule);

/** That the policy prints as text that parses to the same policy, with nothing new to warn of. */
function checkRoundTrip(policy: Policy): void {
  const text = String(policy);
  const again = parsePolicy(text);
  must(String(again) === text, "another policy", [text, String(again)]);
  const looks = ({ warnings }: Policy) => warnings.filter(deservesALook).length;
  must(looks(again) === again.warnings.length, "new warnings", again.warnings);
  must(looks(again) <= looks(policy), "new warnings", again.warnings);
}

/** What a limiter says of some targets. */
function answers(policy: Policy): unknown {
  const limiter = createLimiter(policy);
  return [undefined, ...BINDINGS.slice(0, 4)].flatMap((binding) =>
    DOMAINS.slice(0, 3).map((domain) =>
      limiter
        .explain({ binding, domain, host: "a.example" })
        .limits.map(({ option, key, limit }) => [option, key, limit]),
    ),
  );
}

describe("parsePolicy: any text", () => {
  test(
    "parsePolicy answers random text with a policy or with issues that point into it",
    () => {
      fc.assert(
        fc.property(texts, unknown, (text, how) => {
          const policy = parsed(text, { unknown: how });
          if (policy !== undefined) checkRoundTrip(policy);
        }),
        runs(2),
      );
    },
    timeout,
  );

  test(
    "parsePolicy answers a policy with slips in it with a policy or with issues that point into it",
    () => {
      fc.assert(
        fc.property(policies, fc.gen(), slips, unknown, (input, draw, made, how) => {
          const text = written(input, (...from) => draw(fc.constantFrom, ...from));
          const policy = parsed(withSlips(text, made), { unknown: how });
          if (policy !== undefined) checkRoundTrip(policy);
        }),
        runs(0.6),
      );
    },
    timeout,
  );

  test(
    "parsePolicy answers any string",
    () => {
      fc.assert(
        fc.property(fc.string({ unit: "binary", maxLength: 200 }), unknown, (text, how) => {
          parsed(text, { unknown: how });
        }),
        runs(0.25),
      );
    },
    timeout,
  );

  test(
    "parsePolicy reads a policy written in any way, and definePolicy says the same",
    () => {
      fc.assert(
        fc.property(policies, fc.gen(), (input, draw) => {
          const text = written(input, (...from) => draw(fc.constantFrom, ...from));
          const policy = parsePolicy(text);
          expect(String(policy)).toBe(String(definePolicy(input)));
          must(policy.warnings.every(deservesALook), "a warning", policy.warnings);
          checkRoundTrip(policy);
        }),
        runs(0.25),
      );
    },
    timeout,
  );

  test(
    "String(policy) parses to a policy that gives every target the same limits",
    () => {
      fc.assert(
        fc.property(policies, (input) => {
          const policy = definePolicy(input);
          expect(answers(parsePolicy(String(policy)))).toEqual(answers(policy));
        }),
        runs(0.025),
      );
    },
    timeout,
  );

  test(
    "parsePolicy does not depend on what it parsed before",
    () => {
      fc.assert(
        fc.property(texts, texts, (text, other) => {
          const first = outcome(text);
          outcome(other);
          expect(outcome(text)).toEqual(first);
        }),
        runs(0.1),
      );
    },
    timeout,
  );
});

function outcome(text: string): unknown {
  try {
    return String(parsePolicy(text, { unknown: "ignore" }));
  } catch (error) {
    return (error as PolicyError).issues;
  }
}

describe("definePolicy: any object", () => {
  const keys = fc.oneof(
    fc.constantFrom(
      ..."domain host binding binding_group max_outbound_connections scope_max_outbound_connections".split(" "),
      ..."server_reserve_outbound_connections max_outbund_connections domian g b d.example /a/ /(?=a)/ __proto__".split(
        " ",
      ),
      ..."constructor toString a..b include a:b".split(" "),
      "",
    ),
    fc.string({ maxLength: 10 }),
  );
  const anything = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      fc.oneof(
        fc.constantFrom<unknown>(
          5,
          -1,
          0,
          -2,
          1.5,
          Number.NaN,
          "5",
          "g",
          "",
          null,
          undefined,
          true,
          2n,
          Symbol("s"),
          () => 5,
        ),
        fc.jsonValue({ maxDepth: 1 }),
      ),
      fc.dictionary(keys, tie("value"), { maxKeys: 4 }),
      fc.dictionary(keys, tie("value"), { maxKeys: 4 }),
      fc.array(tie("value"), { maxLength: 2 }),
    ),
  })).value;

  test(
    "definePolicy answers with a policy or with issues that carry a path",
    () => {
      fc.assert(
        fc.property(anything, (input) => {
          let policy: Policy;
          try {
            policy = definePolicy(input as PolicyInput);
          } catch (error) {
            if (!(error instanceof PolicyError)) throw error;
            must(
              error.issues.length >= 1 && error.issues.length <= MOST_ISSUES,
              "no issues or too many",
              error.issues.length,
            );
            for (const issue of error.issues) {
              must(issue.line === 0 && issue.column === 0, "a position", issue);
              must(!/[^\P{Cc}\n\t]/u.test(issue.message + issue.excerpt), "a control character", issue);
              must(
                issue.message !== "" && issue.message.length + issue.excerpt.length <= LONGEST_MESSAGE,
                "an issue that is empty or too long",
                issue,
              );
            }
            return;
          }
          checkRoundTrip(policy);
        }),
        runs(2),
      );
    },
    timeout,
  );
});
