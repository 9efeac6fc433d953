// A set of patterns answers what trying each of them with the engine answers, for patterns and names drawn at random.
// FUZZ_RUNS sets the number of runs (default 2000), of which each property gets a fixed share.

import fc from "fast-check";
import { RE2JS, RE2JSException } from "re2js";
import { describe, expect, test } from "vitest";
import { requiredTexts } from "../../src/core/literals.js";
import { PatternSet } from "../../src/core/patterns.js";
import { positionsOf } from "../../src/core/positions.js";
import { normalName } from "../../src/policy/name.js";

const fuzzRuns = Number(process.env["FUZZ_RUNS"] ?? 2000);
const runs = { numRuns: Math.max(1, Math.round(fuzzRuns / 4)) };
const timeout = 30_000 + fuzzRuns * 100;

/** A piece of a pattern, and some texts that it matches, or would without what is asked of their surroundings. */
interface Piece {
  readonly source: string;
  readonly texts: readonly string[];
}

const piece = (source: string, ...texts: string[]): Piece => ({ source, texts });
const some = (texts: readonly string[]): string[] => [...new Set(texts)].slice(0, 6);

const words: Piece[] = [
  piece("mx", "mx"),
  piece("Mail", "mail"),
  piece("provider-1", "provider-1"),
  piece("\\.example", ".example"),
  piece("[.]co[.]uk", ".co.uk"),
  piece("\\Qa.b|\\E", "a.b|"),
  piece("\\x61k", "ak"),
];

const leaves: Piece[] = [
  ..."aabbckKsS019-_".split("").map((character) => piece(character, character)),
  piece(".", "a", ".", "-"),
  piece("\\.", "."),
  piece("[.]", "."),
  piece("\\-", "-"),
  piece("[a-c]", "a", "c"),
  piece("[^a-c]", "d", "-"),
  piece("[A-C]", "b"),
  piece("[]a]", "a"),
  piece("[^]a]", "b"),
  piece("[a\\]b-]", "-"),
  piece("[[:digit:]_]", "4", "_"),
  piece("[[:^alpha:]]", "."),
  piece("\\d", "7"),
  piece("\\D", "x"),
  piece("\\w", "_", "q"),
  piece("\\W", "-"),
  piece("\\S", "!"),
  piece("\\s", "a"),
  piece("\\pL", "m"),
  piece("\\p{Lu}", "m"),
  piece("\\P{Ll}", "5"),
  piece("\\p{Greek}", "a"),
  piece("\\x61", "a"),
  piece("\\x{6B}", "k"),
  piece("\\141", "a"),
  piece("\\Q-", "-"),
  piece("\u017f", "s"),
  piece("\u212a", "k"),
  piece("é", "a"),
  piece("(?i)B", "b"),
  piece("(?-i)B", "b"),
  piece("(?-i:k)", "k"),
  piece("(?s).", "a"),
  piece("(?U)a+", "aa"),
  piece("(?m)^", ""),
  piece("(?m)$", ""),
  piece("^", ""),
  piece("$", ""),
  piece("\\A", ""),
  piece("\\z", ""),
  piece("\\b", ""),
  piece("\\B", ""),
  piece("", ""),
  piece("\\n", ""),
  piece("[a-z]{5}", "abcde"),
  piece("[a-z0-9-]{3,40}", "ab-", "a".repeat(12)),
];

const quantifiers: readonly [string, readonly number[]][] = [
  ["*", [0, 1, 3]],
  ["+", [1, 2]],
  ["?", [0, 1]],
  ["*?", [0, 2]],
  ["+?", [1, 3]],
  ["??", [0, 1]],
  ["{0}", [0]],
  ["{2}", [2]],
  ["{0,}", [0, 2]],
  ["{1,3}", [1, 3]],
  ["{2,}?", [2, 3]],
  ["{0,2}", [0, 2]],
];

const { pattern: patterns } = fc.letrec<{ pattern: Piece; part: Piece; group: Piece }>((tie) => ({
  group: tie("pattern").chain(({ source, texts }) =>
    fc.constantFrom("(", "(?:", "(?i:", "(?-i:", "(?s:", "(?P<n>").map((open) => piece(`${open}${source})`, ...texts)),
  ),
  part: fc.oneof(
    { maxDepth: 3 },
    fc.constantFrom(...leaves),
    fc.constantFrom(...words),
    tie("group"),
    fc
      .tuple(
        fc.oneof(fc.constantFrom(...leaves.filter(({ source }) => /^(?:\\?.|\[.*\])$/.test(source))), tie("group")),
        fc.constantFrom(...quantifiers),
      )
      .map(([{ source, texts }, [quantifier, times]]) =>
        piece(source + quantifier, ...some(times.flatMap((count) => texts.map((text) => text.repeat(count))))),
      ),
  ),
  pattern: fc
    .array(fc.array(tie("part"), { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 3 })
    .map((alternatives) => {
      const concatenated = alternatives.map((parts) => ({
        source: parts.map(({ source }) => source).join(""),
        texts: parts.reduce<string[]>(
          (texts, part) => some(texts.flatMap((text) => part.texts.map((more) => text + more))),
          [""],
        ),
      }));
      return piece(
        concatenated.map(({ source }) => source).join("|"),
        ...some(concatenated.flatMap(({ texts }) => texts)),
      );
    }),
}));

const noise = fc.string({ unit: fc.constantFrom(..."ab.ck-_09mxs!".split("")), maxLength: 6 });

/** Names made to match, with something around them or a character missing, and some others. */
function namesFor(texts: readonly string[]): fc.Arbitrary<string[]> {
  const made = fc
    .tuple(noise, fc.constantFrom("", ...texts), noise, fc.nat(20), fc.boolean())
    .map(
      ([before, text, after, at, whole]) => before + (whole ? text : text.slice(0, at) + text.slice(at + 1)) + after,
    );
  return fc.array(fc.oneof(made, fc.constantFrom("a", ...texts), noise), { maxLength: 12 }).map((drawn) =>
    drawn.flatMap((raw) => {
      const normal = normalName(raw);
      return "name" in normal ? [normal.name] : [];
    }),
  );
}

/** As a policy has it compiled; undefined where the engine refuses it: two groups of one name, for example. */
function compiled({ source }: Piece): RE2JS | undefined {
  try {
    return RE2JS.compile(source, RE2JS.CASE_INSENSITIVE);
  } catch (error) {
    expect(error).toBeInstanceOf(RE2JSException);
    return undefined;
  }
}

describe("PatternSet", () => {
  test("match: those that the engine says match, in their order", { timeout }, () => {
    let asked = 0;
    let matched = 0;
    const drawn = fc
      .array(patterns, { minLength: 1, maxLength: 8 })
      .chain((pieces) => fc.tuple(fc.constant(pieces), namesFor(pieces.flatMap(({ texts }) => texts))));
    fc.assert(
      fc.property(drawn, ([pieces, names]) => {
        const all = pieces.flatMap(({ source, texts }) => {
          const matcher = compiled({ source, texts });
          return matcher === undefined ? [] : [{ source, pattern: { matcher } }];
        });
        const set = new PatternSet(all);
        for (const name of names) {
          const expected = all.filter(({ pattern }) => pattern.matcher.test(name));
          asked += all.length;
          matched += expected.length;
          const sources = (some: typeof all) => some.map(({ source }) => source);
          expect([name, sources([...set.match(name)])]).toEqual([name, sources(expected)]);
        }
      }),
      runs,
    );
    // Otherwise it would have tested little.
    expect(matched / asked).toBeGreaterThan(0.1);
    expect(matched / asked).toBeLessThan(0.9);
  });
});

describe("requiredTexts", () => {
  test("a name that matches holds a text of each set", { timeout }, () => {
    let held = 0;
    const drawn = patterns.chain((one) => fc.tuple(fc.constant(one), namesFor(one.texts)));
    fc.assert(
      fc.property(drawn, ([one, names]) => {
        const matcher = compiled(one);
        const positions = matcher && positionsOf(matcher);
        if (positions === undefined) return;
        const matching = names.filter((name) => matcher?.test(name));
        for (const texts of requiredTexts(positions)) {
          held += matching.length;
          const without = matching.filter((name) => ![...texts].some((text) => name.includes(text)));
          expect([[...texts], without]).toEqual([[...texts], []]);
        }
      }),
      runs,
    );
    expect(held).toBeGreaterThan(runs.numRuns / 10);
  });
});
