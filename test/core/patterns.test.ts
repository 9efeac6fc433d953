// Patterns found by the texts they need, and run over a name all at once: the cases a rule decides, one by one.

import { RE2JS } from "re2js";
import { describe, expect, test } from "vitest";
import { requiredTexts, TextIndex } from "../../src/core/literals.js";
import { PatternSet } from "../../src/core/patterns.js";
import { positionsOf } from "../../src/core/positions.js";
import { normalName } from "../../src/policy/name.js";

/** As a policy has it compiled. */
const compiled = (source: string): RE2JS => RE2JS.compile(source, RE2JS.CASE_INSENSITIVE);

const setOf = (...sources: string[]) =>
  new PatternSet(sources.map((source) => ({ source, pattern: { matcher: compiled(source) } })));
const matching = (set: ReturnType<typeof setOf>, name: string) => set.match(name).map(({ source }) => source);

describe("requiredTexts", () => {
  const choices = (source: string): string[][] => {
    const positions = positionsOf(compiled(source));
    return requiredTexts(positions ?? { characters: [], next: [], matched: [] }).map((texts) => [...texts]);
  };

  test.each<[string, string[][]]>([
    ["\\.mail\\.example$", [[".mail.example"]]],
    [
      "^(wanadoo|orange)\\.fr$",
      [
        ["wanadoo", "orange"],
        ["wanadoo", "orange"],
      ],
    ],
    ["(^|\\.)mx[0-9]+\\.provider-7\\.(com|net)$", [["mx"], [".provider-7."], [".provider-7."]]],
    ["(gmail|yahoo)", [["gmail", "yahoo"]]],
    ["Google", [["google"]]],
    ["[.]co[.]uk", [[".co.uk"]]],
    ["\\Qa.b\\E", [["a.b"]]],
    ["(ab){2}", [["abab"]]],
    ["(?:abc)+", [["abc"]]],
    ["ab+cd", [["cd"]]],
    ["(?i:AB)\\x63", [["abc"]]],
    ["(abcdef|x)\\.fr$", [["abcdef", ".fr"]]],
    // Nothing is in all of them.
    ["(gmail|y)", []],
    ["(?:abc)*", []],
    ["(?:abc)?x", []],
    ["^[a-z]{5}$", []],
    [".*", []],
    ["a|b", []],
  ])("%s", (source, expected) => {
    const inOrder = (sets: string[][]) => sets.map((texts) => texts.toSorted().join(" or ")).toSorted();
    expect(inOrder(choices(source))).toEqual(inOrder(expected));
  });
});

describe("positionsOf", () => {
  test("knows nothing of look-behind, which policies are compiled without", () => {
    const compile = (source: string) => RE2JS.compile(source, RE2JS.CASE_INSENSITIVE | RE2JS.LOOKBEHINDS);
    expect(positionsOf(compile("ab"))).toBeDefined();
    expect(positionsOf(compile("(?<=a)b"))).toBeUndefined();
  });
});

describe("TextIndex", () => {
  const find = (texts: string[], name: string) =>
    [...new TextIndex(new Map(texts.map((text) => [text, [text]]))).find(name)].toSorted();

  test.each<[string[], string, string[]]>([
    [["he", "she", "his", "hers"], "ushers", ["he", "hers", "she"]],
    [["a", "ab", "abc", "bc", "c"], "abc", ["a", "ab", "abc", "bc", "c"]],
    [["aa", "aaa"], "aaaa", ["aa", "aaa"]],
    [["abcd", "bcx"], "abcx", ["bcx"]],
    [["mail", "ail."], "mail.mail", ["ail.", "mail"]],
    [["mail"], "mai l", []],
    [[], "mail", []],
  ])("finds in one pass which of %j are in %s", (texts, name, expected) => {
    expect(find(texts, name)).toEqual(expected);
  });

  test("tells what is listed under several texts once", () => {
    const index = new TextIndex(
      new Map([
        ["ab", ["both", "first"]],
        ["cd", ["both"]],
      ]),
    );
    expect([...index.find("abcdab")].toSorted()).toEqual(["both", "first"]);
  });
});

describe("PatternSet", () => {
  test("match: in the order written, whatever they are found by", () => {
    const sources = ["example", ".", "[0-9]", "mx", "^mx[0-9]*\\.example$", "x{40}", "\\bmx1\\b", "mx"];
    expect(matching(setOf(...sources), "mx1.example")).toEqual([...sources.slice(0, 5), ...sources.slice(6)]);
    expect(matching(setOf(...sources), "x".repeat(41))).toEqual([".", "x{40}"]);
  });

  test("match: none for a pattern that no name can match", () => {
    const set = setOf("a^b", "a\\nb", "\\pLu\u00e9x", "^$", "[A-Z--@]{0}\\n");
    for (const name of ["ab", "a", "b", "aub", "x"]) expect(matching(set, name)).toEqual([]);
  });

  test("match: the boundaries of words, at the ends of the name, too", () => {
    const sources = ["\\bmail\\b", "\\Bmail", "mail\\B", "^\\b", "\\b$", "\\B\\.", "-\\b-"];
    const set = setOf(...sources);
    const expected = (name: string) => sources.filter((source) => compiled(source).test(name));
    for (const name of ["mail", "a-mail.b", "email", "mails", "-mail_", "mail.", "--", "a", "-", ".", "a.b"])
      expect([name, matching(set, name)]).toEqual([name, expected(name)]);
  });

  test("match: patterns that end where one word does, and a character before and behind", () => {
    const sources = Array.from({ length: 12 }, (_, index) => `^${"[ab]".repeat(25 + index)}$`);
    const set = setOf(...sources);
    for (let length = 20; length < 40; length++) {
      expect(matching(set, "ab".repeat(20).slice(0, length))).toEqual(sources.filter((_, at) => 25 + at === length));
    }
  });

  test("match: hundreds of patterns of which none needs a text", () => {
    const sources = Array.from({ length: 300 }, (_, index) => `^[a-z]{${1 + (index % 20)}}[0-9]{${index % 7}}$`);
    const set = setOf(...sources);
    const name = `${"q".repeat(14)}666666`;
    expect(matching(set, name)).toEqual(sources.filter((source) => new RegExp(source).test(name)));
  });

  test("match: a list of names in one pattern", () => {
    const names = Array.from({ length: 500 }, (_, index) => `name-${(index * 7919) % 100_003}.example`);
    const set = setOf(`^(?:${names.join("|").replaceAll(".", "\\.")})$`);
    for (const name of names) {
      expect(set.match(name)).toHaveLength(1);
      expect(set.match(`x${name}`)).toHaveLength(0);
      expect(set.match(name.slice(0, -1))).toHaveLength(0);
    }
  });

  test("match: a pattern too large for an automaton, among others", () => {
    const large = "^([a-c]?){250}$";
    expect(positionsOf(compiled(large))).toBeUndefined();
    const set = setOf("x", large, "a");
    expect(matching(set, "abc".repeat(80))).toEqual([large, "a"]);
    expect(matching(set, "abc".repeat(84))).toEqual(["a"]);
    expect(matching(set, "xabc")).toEqual(["x", "a"]);
  });

  test("match: names that make an engine with states of its own make new ones at every character", () => {
    const set = setOf("a[ab]{12}\\.example$", "(.*a){20}$", "(a|b)*a(a|b){25}\\.");
    let state = 1;
    const random = () => {
      state = (state * 48_271) % 2_147_483_647;
      return state % 2;
    };
    for (let round = 0; round < 300; round++) {
      const name = `${Array.from({ length: 240 }, () => "ab"[random()]).join("")}.example`;
      const expected = [name.at(-21) === "a", false, name.at(-34) === "a"];
      expect(matching(set, name)).toEqual(
        ["a[ab]{12}\\.example$", "(.*a){20}$", "(a|b)*a(a|b){25}\\."].filter((_, at) => expected[at]),
      );
    }
  });

  test("names in their normal form hold nothing but the characters that positions know", () => {
    const letters = "AZaz09-_.!\"'()[]:%\u00e4\u00df\u0130\u017f\u212a\uff41\u3002\u4f8b\u0660".split("");
    let seen = 0;
    for (const first of letters) {
      for (const second of letters) {
        const normal = normalName(`a${first}${second}b`);
        if (!("name" in normal)) continue;
        seen++;
        expect(normal.name).toMatch(/^[!-@[-~]+$/);
        // `.` is every character.
        expect(matching(setOf(`^.{${normal.name.length}}$`), normal.name)).toHaveLength(1);
      }
    }
    expect(seen).toBeGreaterThan(100);
  });
});
