// What a name costs that was never seen: over no stanzas, over many, and names made to be hard.

import type { PolicyInput } from "../src/index.js";
import { lookUp, MANY, rounds, takeAndRelease } from "./costs.js";
import { type Bench, figure, interleave, medianFigure, type Outcome, quantile, type Variant } from "./measure.js";
import { bindingName, domainName, type Library, listOf, Tuples } from "./workloads.js";

/** Five claims for every target. */
const FIVE: PolicyInput = {
  server_max_outbound_connections: MANY,
  server_reserve_outbound_connections: 0,
  binding_group: {
    bulk: {
      scope_max_outbound_connections: MANY,
      binding: Object.fromEntries(
        listOf(5, bindingName).map((name) => [
          name,
          { server_max_outbound_connections: MANY, scope_max_outbound_connections: MANY },
        ]),
      ),
    },
  },
};

/** Patterns each of which requires a text of its own. */
const ownText = (at: number): string =>
  at % 2 === 0 ? `/(^|\\.)mx[0-9]+\\.provider-${at}\\.(com|net)$/` : `/provider-${at}[0-9]*\\.[a-z]+x$/`;

/** Patterns all of which require the same text. */
const sameText = (at: number): string => `/^[a-z]*[0-9]{${(at % 9) + 1}}[a-z0-9]*-${at}?\\.provider\\.(com|net)$/`;

function withDomains(count: number, name: (at: number) => string): PolicyInput {
  const stanzas = listOf(count, name).map((domain) => [domain, { max_outbound_connections: 20 }] as const);
  return { ...FIVE, domain: Object.fromEntries(stanzas) };
}

const LONGEST_NAME = 253;

/** As many of these as fit into one name with this end. */
function packed(labels: readonly string[], end: string): string {
  let name = "";
  for (const label of labels) {
    if (name.length + label.length + 1 + end.length > LONGEST_NAME) break;
    name += `${label}.`;
  }
  return name + end;
}

/** Names that hold what patterns look for as often as they can, and then fail each of them late. */
function hardNames(count: number): string[] {
  const labels = (label: (part: number) => string): string[] => listOf(200, label);
  return listOf(count, (at) => {
    const some = (part: number): number => (at * 37 + part * 83) % 1000;
    switch (at % 5) {
      case 0:
        return packed(
          labels((part) => `provider-${some(part)}`),
          "example",
        );
      case 1:
        return packed(
          labels((part) => `mx1.provider-${some(part)}`),
          "com9",
        );
      case 2:
        return packed([`provider-${some(0)}${"7".repeat(52)}`, "8".repeat(63), "9".repeat(63), "a".repeat(60)], "y");
      case 3:
        return packed(
          labels((part) => `${"abc".charAt(part % 3)}${part % 10}`),
          `x${at}-1.provider.org`,
        );
      default:
        return packed([`${"a".repeat(30)}${"1".repeat(30)}`, "2".repeat(60), "3".repeat(60)], `b${at}-1.provider.comx`);
    }
  });
}

/** Microseconds of the slowest of some hard names. */
function hardest({ createLimiter, definePolicy }: Library, policy: PolicyInput, count: number): number {
  const limiter = createLimiter(definePolicy(policy));
  const time = (domain: string): number => {
    const start = performance.now();
    limiter.tryAcquire({ domain })?.release();
    return (performance.now() - start) * 1000;
  };
  for (const name of hardNames(count)) time(`w${name.slice(1)}`);
  const least = hardNames(count).map((name) =>
    // Another first letter makes a name that is new to the limiter and as hard; the least of three leaves out what the
    // machine did meanwhile.
    Math.min(...["x", "y", "z"].map((letter) => time(letter + name.slice(1)))),
  );
  return quantile(least, 1);
}

export async function newNames(bench: Bench): Promise<Outcome> {
  const { library, quick } = bench;
  const manyPatterns = withDomains(1000, ownText);
  const policies: Readonly<Record<string, PolicyInput>> = {
    none: FIVE,
    literals: withDomains(10_000, domainName),
    "10 patterns": withDomains(10, ownText),
    "1,000 patterns": manyPatterns,
  };
  const length = quick ? 2 ** 16 : 2 ** 18;
  // Rounds in which the compiler does its work and the caches fill; they must not see the names that are timed.
  const warm = 5;
  const ops = Math.floor(length / (rounds(bench) + warm));
  const tuples = new Tuples();
  for (let i = 0; i < length; i++) tuples.of(bindingName(i % 5), `new-name-${i}.example`, `mx${i % 50}.example`);
  const stream = tuples.all;
  const variants: Variant[] = [{ ...lookUp(stream), ops }];
  for (const [name, policy] of Object.entries(policies)) {
    const limiter = library.createLimiter(library.definePolicy(policy));
    const { limits } = limiter.explain({ binding: bindingName(0), domain: "example" });
    if (limits.length !== 5) throw new Error(`The policy makes ${limits.length} claims, not 5`);
    variants.push({ ...takeAndRelease(name, limiter, stream), ops });
  }
  await interleave(variants, warm, 0);
  const measured = await interleave(variants, rounds(bench), 0);
  const names = quick ? 50 : 300;
  const shared = hardest(library, withDomains(1000, sameText), names);
  return {
    figures: [
      medianFigure("a new tuple", measured.ratios("none", "U"), "U", { most: 6 }),
      medianFigure("10,000 literal stanzas beside none", measured.ratios("literals", "none"), "×", { most: 1.3 }),
      medianFigure("1,000 patterns beside 10", measured.ratios("1,000 patterns", "10 patterns"), "×", { most: 4 }),
      figure(`the slowest of ${names} hard names, 1,000 patterns`, hardest(library, manyPatterns, names), "µs", {
        most: 1000,
      }),
      figure("the same, were all 1,000 patterns to require the same text", shared, "µs"),
      measured.figure("U", "U"),
      measured.figure("a new tuple", "none"),
    ],
  };
}
