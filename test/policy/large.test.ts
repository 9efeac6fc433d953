// Large texts: the cost grows with the size and not with its square, deep nesting overflows no stack, and a megabyte parses.

import { describe, expect, test } from "vitest";
import { definePolicy, type ParseOptions, PolicyError, parsePolicy } from "../../src/index.js";
import { expectLinear, GROWTH } from "./growth.js";
import { issuesOf, limitsOf, max, scopeMax } from "./reading.js";

const MEGABYTE = 2 ** 20;
/** The largest text whose cost is compared. FUZZ_RUNS=10000 makes it a megabyte. */
const LARGE = Number(process.env["FUZZ_RUNS"] ?? 0) >= 10_000 ? MEGABYTE : MEGABYTE / 4;
const SMALL = LARGE / GROWTH ** 2;

/** A text of about that size out of numbered pieces. */
function repeated(size: number, piece: (index: number) => string): string {
  const pieces: string[] = [];
  for (let length = 0, index = 0; length < size; index++) {
    const next = piece(index);
    pieces.push(next);
    length += next.length;
  }
  return pieces.join("");
}

/** Reads without regard to whether it can be read. */
const read =
  (piece: (index: number) => string, options?: ParseOptions) =>
  (size: number): (() => void) => {
    const text = repeated(size, piece);
    return () => {
      try {
        parsePolicy(text, options);
      } catch (error) {
        if (!(error instanceof PolicyError)) throw error;
      }
    };
  };

describe("parsePolicy: large texts", () => {
  test.each<[string, (index: number) => string]>([
    ["stanzas", (index) => `domain d${index}.example { ${max} = ${index} }\n`],
    ["stanzas within one", (index) => `${index === 0 ? "binding b {" : ""} host d${index}.example { ${max} = 1 }\n`],
    ["bindings in a group", (index) => `binding b${index} { binding_group = g${index % 9} }\n`],
    [
      "one stanza written again and again",
      (index) => `domain d.example { ${index % 2 ? max : scopeMax} = ${index} }\n`,
    ],
    ["one option written again and again", () => `${max} = 5\n`],
    ["double quotes", () => '"'],
    ["names with a quote that is not closed", (index) => `domain "d${index}.example\n`],
    ["names with one quote each, of both kinds", (index) => `domain ${index % 2 ? "'" : '"'}d\n`],
    ["values with a quote that is not closed", () => `${max} = "5\n`],
    ["backslashes in quotes", (index) => (index === 0 ? 'domain "' : "\\")],
    ["quotes that open and are escaped from then on", () => '\\"\n'],
    ["names in quotes, on one line", (index) => `domain "d${index}.example" { } `],
    ["{", () => "{"],
    ["}", () => "}"],
    ["( behind a key", (index) => (index === 0 ? "x = " : "(")],
    ["lists that are not closed", () => "x = ( 1\n"],
    ["lists that are closed otherwise", () => "x = ( [ )\n"],
    ["domain {", () => "domain d {"],
    ["domain without {", () => "domain d\n"],
    ["foreign stanzas in each other", () => "x {"],
    ["/", () => "/"],
    ["bare patterns that are not closed", () => "domain /a\n"],
    ["bare patterns that are not closed, on one line", () => "domain /a{ "],
    ["/*", () => "/*"],
    ["comments", () => "/* a */ "],
    ["blank lines", () => "\n"],
    ["spaces between words", (index) => (index % 1000 === 0 ? "x" : " ")],
    ["words on lines of their own", () => "x\n"],
    ["keys without values", () => "x =\n"],
    ["keys without values, on one line", () => "x = = "],
    ["names with a quote that is not closed, no brace", () => 'x "d\n'],
    ["two words and a }, on one line", () => "x y } "],
    ["stanzas without {, on one line", () => "domain d } "],
    ["= before a name, on one line", () => "domain = d } "],
    ["many mistakes on one line", (index) => `frobnicate = ${index} domain a..b { } } ) `],
    ["near misses", () => "max_outbund_connections = 5\n"],
    ["includes without a path", () => "include\n"],
    ["includes, nearly", () => 'includ "a"\n'],
    ["words behind closing quotes", () => '"a"b '],
    ["quotes of both kinds, in turn", () => `"'`],
    ["escaped quotes and a }, on one line", (index) => (index === 0 ? 'x "' : '\\" } ')],
    ["values with a quote that is not closed and a }, on one line", () => `${max} = " } `],
    ["lists over lines that are not closed", (index) => (index === 0 ? "x = (" : "a\n")],
    ["stanzas on a line each that are not closed", () => `domain d { ${max} = 1\n`],
    ["stanzas over lines that are not closed", () => `binding b {\n  ${max} = 1\n`],
    ["stanzas without {, three deep", () => "binding_group g\n  binding b\n    domain d\n"],
  ])(
    "parsePolicy reads sixteen times as many of these in about sixteen times the time: %s",
    (_, piece) => {
      expectLinear(SMALL, LARGE, read(piece));
    },
    60_000,
  );

  test.each<[string, (index: number) => string]>([
    ["foreign options", (index) => `Option_${index} = ( 127.0.0.0/8 10.0.0.0/8 ) # ${index}\n`],
    ["foreign stanzas", (index) => `module_${index} "x" { Listen ":25" { a = [ b = 1 ] } }\n`],
    ["quotes that open and are escaped from then on", (index) => (index === 0 ? "module {\n" : '\\"\n')],
    ["a long string over lines", (index) => (index === 0 ? 'query = "' : "SELECT 1\n")],
    ["strings with a quote that is not closed", () => 'x = "a\ny = "b"\n'],
    ["strings in lists with a quote that is not closed", () => 'x = ( "a\n'],
    ["escaped quotes in a string that is closed", (index) => (index === 0 ? 'module {\n"' : '\\" ')],
    ["dictionaries that are not closed", () => "x = [ a = 1\n"],
    ["a dictionary over lines that is not closed", (index) => (index === 0 ? "x = [" : "a = 1\n")],
  ])(
    "parsePolicy, unknown: ignore, reads sixteen times as many of these in about sixteen times the time: %s",
    (_, piece) => {
      expectLinear(SMALL, LARGE, read(piece, { unknown: "ignore" }));
    },
    60_000,
  );

  test("parsePolicy reads sixteen times as many patterns in about sixteen times the time", () => {
    expectLinear(
      2 ** 10,
      2 ** 18,
      read((index) => `domain "/^d${index}\\.example$/" { ${max} = 5 }\n`),
    );
  }, 60_000);

  test("parsePolicy refuses a bad pattern sixteen times as long in about sixteen times the time", () => {
    for (const piece of ["a", "a++", "(?=", "[", "\\\\", "(", "a{2}"]) {
      expectLinear(2 ** 7, 2 ** 15, (size) =>
        read((index) => (index === 0 ? `domain "/` : index === 1 ? piece.repeat(size / piece.length) : `(?=b)/" { }`))(
          size,
        ),
      );
    }
  }, 60_000);

  test("String(policy) and definePolicy take about sixteen times the time for sixteen times as many stanzas", () => {
    const policyOf = (size: number) =>
      parsePolicy(repeated(size, (index) => `domain d${index}.example { ${max} = 5 }\n`));
    expectLinear(SMALL, LARGE, (size) => {
      const policy = policyOf(size);
      return () => String(policy);
    });
    expectLinear(SMALL, LARGE, (size) => {
      const count = Math.round(size / 50);
      const domain = Object.fromEntries(
        Array.from({ length: count }, (_, index) => [`d${index}.example`, { [max]: 5 }]),
      );
      return () => definePolicy({ domain });
    });
  }, 60_000);

  test("parsePolicy reads a megabyte", () => {
    const text = repeated(MEGABYTE, (index) => `domain d${index}.example { ${max} = ${index + 1} } # ${index}\n`);
    const last = text.split("\n").length - 2;
    const policy = parsePolicy(text);
    expect(limitsOf(policy, { domain: "d0.example" })).toEqual([1]);
    expect(limitsOf(policy, { domain: `D${last}.example.` })).toEqual([last + 1]);
    expect(policy.warnings).toEqual([]);
  });

  test("parsePolicy reads ten thousand patterns, and merges one stanza written ten thousand times", () => {
    const patterns = Array.from({ length: 10_000 }, (_, index) => `host "/^mx${index}\\./" { ${max} = ${index} }`);
    expect(limitsOf(parsePolicy(patterns.join("\n")), { domain: "d.example", host: "mx9999.example" }).at(-1)).toBe(
      9999,
    );
    const merged = parsePolicy(`domain "/a/" { ${max} = 5 }\n`.repeat(10_000));
    expect(String(merged)).toBe(String(parsePolicy(`domain "/a/" { ${max} = 5 }`)));
    expect(merged.warnings.length).toBeGreaterThan(0);
  }, 30_000);

  test.each([
    "domain d {",
    "binding b { ",
    "binding_group g {\n",
    "x { ",
    "{",
    "( ",
    "x = ( ",
    "x = [ a = ",
    "domian d {",
    "domain d\n",
    'domain "d\n',
    "domain /d\n",
  ])("parsePolicy survives a hundred thousand of %j within each other", (opening) => {
    for (const unknown of ["error", "ignore"] as const) {
      const issues = issuesOf(opening.repeat(100_000), { unknown });
      expect(issues.length).toBeGreaterThan(0);
      expect(issues.length).toBeLessThanOrEqual(50);
    }
  });

  test("parsePolicy skips a foreign stanza however deep it is", () => {
    const deep = `${"x { ".repeat(50_000)}${"} ".repeat(50_000)}y = ${"( ".repeat(50_000)}${") ".repeat(50_000)}`;
    expect(limitsOf(parsePolicy(`${deep}\n${max} = 5`, { unknown: "ignore" }), { domain: "d.example" })).toEqual([5]);
  });
});
