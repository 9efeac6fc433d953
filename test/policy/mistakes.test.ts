// Policy text that is wrong: each kind of mistake is one issue, at the right piece of the text, with help.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type ParseOptions, parsePolicy } from "../../src/index.js";
import { errorOf, type Issue, issuesOf, marked, max, scopeMax, serverMax, textAt, underlined } from "./reading.js";

const reserve = "server_reserve_outbound_connections";
/** What moves a terminal's cursor or worse; only line ends and tabs are harmless. */
const CONTROL = /[^\P{Cc}\n\t]/u;

/** That the text has one mistake, and that it is the piece between « and ». */
function expectOneIssue(written: string, rule: Issue["rule"], help?: string | RegExp): void {
  const { text, piece, line, column } = marked(written);
  const issues = issuesOf(text);
  expect(issues.map((issue) => issue.rule)).toEqual([rule]);
  const [issue] = issues as [Issue];
  expect(underlined(issue.excerpt)).toBe(piece);
  expect({ line: issue.line, column: issue.column }).toEqual({ line, column });
  expect(textAt(text, issue).startsWith(piece)).toBe(true);
  if (help !== undefined) expect(issue.help).toMatch(help);
}

describe("parsePolicy: one typo, one issue", () => {
  test.each([
    ["no `{`", `domain d.example\n  ${max} = 5\n}\n${scopeMax} = 7`, "domain d.example"],
    ["no `{`, on one line", `domain d.example ${max} = 5 }\n${scopeMax} = 7`, "domain d.example"],
    ["no `{` around a stanza", `binding b\n  domain d.example { ${max} = 5 }\n}\n${scopeMax} = 7`, "binding b"],
    ["no `}`", `domain d.example {\n  ${max} = 5\n${scopeMax} = 7`, "{"],
    ["no `}` of an inner stanza", `binding b {\n  domain d.example {\n    ${max} = 5\n}\ndomain e.example { }`, "{"],
    ["no `}` before another stanza", `domain d.example {\n  ${max} = 5\n\nhost mx { }\ndomain e.example { }`, "{"],
    ["no `}` before an option", `domain d.example {\n  ${max} = 5\n\n${serverMax} = 7`, "{"],
    ["no `}` at all", `binding_group g { binding b { domain d.example { ${max} = 5`, "{"],
    ["one `}` too many", `domain d.example { ${max} = 5 } }\n${scopeMax} = 7`, "}"],
    ["a second `{`", `domain d.example { {\n  ${max} = 5\n}\n${scopeMax} = 7`, "{"],
    ["no `=`", `${max} 5\n${scopeMax} = 7`, max],
    ["no `=`, in a stanza", `domain d.example {\n  ${max} 5\n}\n${scopeMax} = 7`, max],
    ["no `=`, in a stanza on one line", `domain d.example { ${max} 5 }\n${scopeMax} = 7`, max],
    ["`:` for `=`", `${max}: 5\n${scopeMax} = 7`, max],
    ["`==` for `=`", `${max} == 5\n${scopeMax} = 7`, "="],
    ["`=` before a name", `domain = "d.example" {\n  ${max} = 5\n}\n${scopeMax} = 7`, "domain"],
    ["`=` before a `{`", `domain "d.example" = {\n  ${max} = 5\n}\n${scopeMax} = 7`, "domain"],
    ["no value", `${max} =\n${scopeMax} = 7`, max],
    ["no value before a stanza", `${max} =\ndomain "d.example" { ${max} = 5 }`, max],
    ["no value before a `}`", `domain d.example { ${max} = }\n${scopeMax} = 7`, max],
    ["no value at the end", `${scopeMax} = 7\n${max} =`, max],
    ["no value, a comment", `${max} = # five\n${scopeMax} = 7`, max],
    ["no value and no `=`", `${max}\n${scopeMax} = 7`, max],
    ["no closing quote of a name", `domain "d.example {\n  ${max} = 5\n}\n${scopeMax} = 7`, '"d.example'],
    ["no closing quote of a name, quotes later", `domain "d.example {\n  ${max} = "5"\n}\nhost "mx" { }`, '"d.example'],
    ["no closing single quote of a name", `domain 'd.example {\n  ${max} = 5\n}\n${scopeMax} = 7`, "'d.example"],
    ["no opening quote of a name", `domain d.example" {\n  ${max} = 5\n}\n${scopeMax} = 7`, "d.example"],
    ["no closing quote of a value", `domain d.example {\n  ${max} = "5\n}\n${scopeMax} = 7`, '"5'],
    ["no closing quote of the last value", `${scopeMax} = 7\n${max} = "5`, '"5'],
    ["no closing quote of a value, quotes later", `${max} = "5\n\ndomain "d.example" { }`, '"5'],
    ["a quote twice", `${max} = ""5"\n${scopeMax} = 7`, '"'],
    ["a word behind a closing quote", `${max} = "5"x\n${scopeMax} = 7`, '"5"x'],
    ["a quote too many in a name", `domain "d".example" {\n  ${max} = "5"\n}`, '"d".'],
    ["no closing quote of a value, a comment", `${max} = "5 # five\n${scopeMax} = 7`, '"5'],
    ["no closing quote of a value before a `}`", `domain d.example { ${max} = "5 }\n${scopeMax} = 7`, '"5'],
    ["no opening quote of a value", `${max} = 5"\n${scopeMax} = 7`, "5"],
    ["no name", `domain { ${max} = 5 }\n${scopeMax} = 7`, "domain"],
    ["an empty name", `domain "" { ${max} = 5 }\n${scopeMax} = 7`, '""'],
    ["two names", `domain a.example b.example { ${max} = 5 }\n${scopeMax} = 7`, "domain a.example"],
    ["a list not closed", `${max} = ( 20 80\n${scopeMax} = 7`, "("],
    ["a list not closed, in a stanza", `domain d.example {\n  ${max} = ( 20 80\n}\n${scopeMax} = 7`, "("],
    ["a dictionary not closed", `domain d.example {\n  ${max} = [ a = 1\n}\n${scopeMax} = 7`, "["],
    ["a list closed as a dictionary", `${max} = ( 20 80 ]\n${scopeMax} = 7`, "]"],
    ["a comment not closed", `${max} = 5\n/* five\n${scopeMax} = 7`, "/*"],
    ["a comment not closed, in a stanza", `domain d.example {\n  ${max} = 5 /* five\n}\n${scopeMax} = 7`, "/*"],
    ["a comment closed twice", `/* a /* b */ c */\n${max} = 5`, "c"],
    ["a value of two words", `${max} = 1 000\n${scopeMax} = 7`, "000"],
    ["a value of three words", `${max} = many per host\n${scopeMax} = 7`, "per host"],
    ["two `=`", `${max} = 5 = 6\n${scopeMax} = 7`, "="],
    ["a `;`", `${max} = 5;\n${scopeMax} = 7`, "5;"],
    ["a word alone", `${max} = 5\nunlimited\n${scopeMax} = 7`, "unlimited"],
    ["a `)` alone", `${max} = 5 )\n${scopeMax} = 7`, ")"],
    ["`(` for `{`", `domain d.example (\n  ${max} = 5\n}\n${scopeMax} = 7`, "domain d.example"],
    ["`}` for `{`", `domain d.example }\n  ${max} = 5\n}\n${scopeMax} = 7`, "domain d.example"],
    ["`)` for `}`", `domain d.example { ${max} = 5 )\ndomain e.example { }`, ")"],
    ["a stanza without a body", `domain d.example\nhost mx { }\n${serverMax} = 7`, "domain d.example"],
    ["a stanza without a keyword", `{ ${max} = 5 }\n${scopeMax} = 7`, "{"],
    ["no path of an include", `include\n${max} = 5`, "include"],
    ["include with `=` and no path", `include =\n${max} = 5`, "include"],
    ["include with `=`", `include = "a.conf"\n${max} = 5`, "include"],
  ])("parsePolicy finds %s", (_, text, piece) => {
    const issues = issuesOf(text);
    expect(issues, issues.map((issue) => issue.excerpt).join("\n")).toHaveLength(1);
    const [issue] = issues as [Issue];
    expect(underlined(issue.excerpt)).toContain(piece);
    expect(textAt(text, issue).startsWith(underlined(issue.excerpt))).toBe(true);
  });

  test.each<[string, string, RegExp]>([
    ["a `;`", `${max} = «5;»\n${scopeMax} = 7`, /^write `5`: nothing ends a line$/],
    ["a comment of C++", `«/»/ five\n${max} = 5`, /^a comment begins with `#`/],
    ["a comment of C++ behind a value", `${max} = 5 «/»/ five\n${scopeMax} = 7`, /^a comment begins with `#`/],
    ["several domains", `«domain a.example» b.example {\n  ${max} = 5\n}`, /pattern: `domain "\/\^\(one\|other\)\$\/"/],
    ["several domains, with commas", `«domain "a.example"», "b.example" { ${max} = 5 }`, /stanza for each name, or/],
    ["a list of domains", `«domain» ("a.example" "b.example") { ${max} = 5 }`, /stanza for each name, or/],
    ["several hosts", `«host 'a.example'» 'b.example' { ${max} = 5 }`, /pattern: `host "/],
    ["several bindings", `«binding a» b { ${max} = 5 }`, /^write a stanza for each name$/],
  ])("parsePolicy says what to write instead of %s", (_, written, help) => {
    expectOneIssue(written, written.includes(";") ? "bad-value" : "syntax", help);
  });

  /** Every text that one of these characters, left out or written twice, makes of this one, and the place of the slip. */
  function* slipsOf(text: string, characters: RegExp): Generator<[string, string]> {
    for (const { index } of text.matchAll(characters)) {
      const place = `character ${index}, \`${text[index]}\`, in \`${text.slice(0, index).split("\n").at(-1)}\``;
      yield [text.slice(0, index) + text.slice(index + 1), `without ${place}`];
      yield [text.slice(0, index) + text[index] + text.slice(index), `twice ${place}`];
    }
  }
  const saidTwice = (text: string, characters: RegExp, options?: ParseOptions): string[] =>
    [...slipsOf(text, characters)].flatMap(([slipped, place]) => {
      const issues = issuesOf(slipped, options);
      return issues.length < 2
        ? []
        : [`${place}: ${issues.map(({ line, message }) => `${line}: ${message}`).join("; ")}`];
    });

  test("parsePolicy finds no second mistake where any one character is left out or written twice", () => {
    const text = [
      `${max} = 20`,
      `${serverMax} = "20000"`,
      "",
      'binding_group "bulk" {',
      `  ${scopeMax} = 400`,
      '  binding "mta-1" {',
      `    domain "gmail.com" { ${max} = 50 }`,
      "  }",
      "}",
      String.raw`domain "/^(wanadoo|orange)\.fr$/" {`,
      `  ${scopeMax} = 3 # shared`,
      "}",
      "host 'mx.example' {",
      `  ${max} = "32"`,
      "}",
      String.raw`Domain /google\.(com|es)$/ { max_outbound_connections = 7 }`,
    ].join("\n");
    expect(saidTwice(text, /\S/g)).toEqual([]);
  });

  test("parsePolicy, unknown: ignore, finds no second mistake where a bracket or quote is left out or written twice", () => {
    const text = readFileSync(join(import.meta.dirname, "fixtures", "ecelerity.conf"), "utf8");
    expect(saidTwice(text, /[{}()[\]=,"']/g, { unknown: "ignore" })).toEqual([]);
  });

  test.each(["Ports = ( 20 80 «]»", "Map = [ a = 1 «)»", "Map = [ a = ( 1 2 «]» ]"])(
    "parsePolicy, unknown: ignore, does not close one bracket with another: %s",
    (written) => {
      const { text, piece, line, column } = marked(`domain d.example {\n  ${written}\n}\n${max} = 7`);
      const issues = issuesOf(text, { unknown: "ignore" });
      expect(issues).toMatchObject([{ rule: "syntax", line, column }]);
      expect(underlined(issues[0]!.excerpt)).toBe(piece);
    },
  );

  test.each([
    [
      "of the stanza that is misplaced inside of it",
      `domain d «{»\n${max} = 5\nhost mx { }\ndomain e { }`,
      "host mx { }",
    ],
    ["on one line", `domain d «{» ${max} = 5 host mx { }`, "host mx { }"],
    ["two levels deep", `binding_group g { binding b «{» ${max} = 5 binding_group h { }`, "binding_group h { }"],
    [
      "of the inner one, as lines are indented",
      `binding b {\n  domain d «{»\n    ${max} = 5\n\n  domain e {\n  }\n}\n${serverMax} = 7`,
      "domain e {",
    ],
    [
      "whose `}` is the outer one's, as lines are indented",
      `binding b {\n  domain d «{»\n    ${max} = 5\n}\n${serverMax} = 7`,
      "}",
    ],
    ["of a stanza on one line", `binding b {\n\tdomain d «{» ${max} = 5\n\t${max} = 7\n}`, `${max} = 7`],
    [
      "and not of the one that holds what is wrong in any case",
      `binding b {\n  domain d {\n  }\n  host mx «{»\n    ${scopeMax} = 5\n}\n`,
      "}",
    ],
  ])("parsePolicy finds the stanza without its `}`, and says before what: %s", (_, written, before) => {
    const { text, piece, line, column } = marked(written);
    const issues = issuesOf(text);
    expect(issues).toMatchObject([{ rule: "syntax", message: "`{` is never closed", line, column }]);
    expect(underlined(issues[0]!.excerpt)).toBe(piece);
    const last = text.split("\n").findLastIndex((shown) => shown.includes(before));
    expect(issues[0]!.help).toBe(`add a \`}\` before \`${before}\` in line ${last + 1}`);
  });

  test("parsePolicy takes a stanza or an option for misplaced where no `}` is missing", () => {
    const text = `domain d.example {\n  host mx { }\n${serverMax} = 7\n}\nbinding b { ${max} = 5 }`;
    expect(issuesOf(text).map(({ rule, line }) => `${line} ${rule}`)).toEqual(["2 wrong-scope", "3 wrong-scope"]);
  });

  test("parsePolicy finds each of several missing `}`", () => {
    const text = `domain d {\n  ${max} = 5\ndomain e {\n  ${max} = 6\ndomain f {\n  ${max} = 7\n}\nhost mx {\n`;
    expect(issuesOf(text).map(({ rule, line }) => `${line} ${rule}`)).toEqual(["1 syntax", "3 syntax", "8 syntax"]);
  });

  test.each([
    ["a list", `Relay_Hosts = «(» 192.0.2.1\nRetry = ( 1 2 )\nx "y" {\n z = 1\n}`],
    ["a list over lines", `Relay_Hosts = «(»\n  192.0.2.1\n  192.0.2.2\nx {\n}`],
    ["a dictionary", `Map = «[» a = 1\n b = 2\n${scopeMax} = 3\nx { }`],
    ["a list in a dictionary", `Map = [ a = ( 1 2\n b = 5 «]»\nx\n{\n}`],
    ["a string", `Hostname = «"a.example»\nNames = ( "b" "c" )\nx { y = "z" }`],
    ["a string in a list", `Names = ( "a" «"b» )\nHostname = "c"\nx { y = "z" }`],
    ["a string in a stanza", `x {\n a = «"b»\n}\nHostname = "c"\ny { query = "SELECT\n 1" }`],
    ["a string, and no quotes later", `x {\n a = «"b»\n}\ny { z = 1 }`],
  ])("parsePolicy, unknown: ignore, finds what is not closed, and what comes later: %s", (_, written) => {
    const { text, piece, line, column } = marked(written);
    const issues = issuesOf(`${text}\n${max} = five`, { unknown: "ignore" });
    expect(issues).toMatchObject([{ rule: "syntax", line, column }, { rule: "bad-value" }]);
    expect(underlined(issues[0]!.excerpt)).toBe(piece);
  });

  test("parsePolicy, unknown: ignore, finds a stanza that is not ours without its `{`, and nothing else", () => {
    for (const foreign of ["Security", 'ThreadPool "IO"']) {
      const text = `${foreign}\n  user = x\n}\ndomain d.example {\n  ${max} = 5\n}`;
      expect(issuesOf(text, { unknown: "ignore" })).toMatchObject([{ rule: "syntax", line: 1 }]);
      const inside = `domain d.example {\n  ${foreign}\n    user = x\n  }\n  ${max} = 5\n}`;
      expect(issuesOf(inside, { unknown: "ignore" })).toMatchObject([{ rule: "syntax", line: 2 }]);
    }
  });

  test("parsePolicy shows empty quotes as they are written", () => {
    for (const written of ['"" 5', '"" x', "''", '"" =']) {
      const [issue, ...more] = issuesOf(written);
      expect(issue!.message).not.toContain("``");
      expect(more).toEqual([]);
    }
    expect(issuesOf('"" x { }')[0]!.message).toBe('unknown stanza `""`');
  });

  test("parsePolicy reads on after a mistake as if it had not been made", () => {
    const mistakes = [
      `${max} 5`,
      `${max} =`,
      `domain d.example {\n ${max} = "5\n}`,
      "unlimited",
      "max_outbund = 5",
      "( 5 )",
    ];
    for (const mistake of mistakes) {
      const [first, second, ...more] = issuesOf(`${mistake}\ndomain e.example {\n  ${max} = five\n}`);
      expect(first?.line).toBeLessThanOrEqual(3);
      expect(second && underlined(second.excerpt), mistake).toBe("five");
      expect(more).toEqual([]);
    }
  });
});

describe("parsePolicy: unknown words", () => {
  test.each([
    ["«max_outbund_connections» = 5", max],
    ["\t «Max_Outbound_Conections»\t= 5", max],
    ["domain d.example { «scope_max_outbound_connection» = 5 }", scopeMax],
    ["«sevrer_max_outbound_connections» = 5", serverMax],
    ["«server_reserve_outbound_conections» = 5", reserve],
    ["«cluster_max_outbound_conections» = 5", "cluster_max_outbound_connections"],
    ["binding b { «biding_group» = g }", "binding_group"],
  ])("parsePolicy asks of %j: did you mean %s?", (written, meant) => {
    expectOneIssue(written, "unknown-option", `did you mean \`${meant}\`?`);
  });

  test.each([
    [`«domian» "d.example" {\n  ${max} = 5\n}`, "domain"],
    [`«hots» "mx.example" {\n  ${max} = 5\n}`, "host"],
    [`\t«Bindng» b {\n\t\tdomain d.example {\n\t\t\t${max} = 5\n\t\t}\n\t}`, "binding"],
    [`«bindinggroup» g {\n  binding b { ${max} = 5 }\n}`, "binding_group"],
    [`«binding-group» g {\n  binding b { ${max} = 5 }\n}`, "binding_group"],
    [`binding b {\n  «domains» "d.example" { ${max} = 5 }\n}`, "domain"],
  ])("parsePolicy asks of %j: did you mean %s?", (written, meant) => {
    expectOneIssue(written, "unknown-stanza", `did you mean \`${meant}\`?`);
  });

  test.each([
    ['«includ "a.conf"»', "include"],
    ["«readonly_inclde a.conf»", "readonly_include"],
    ["«max_outbund_connections 5»", max],
  ])("parsePolicy asks of %j: did you mean %s?", (written, meant) => {
    expectOneIssue(written, "syntax", `did you mean \`${meant}\`?`);
  });

  test.each(["domaind.example", "Domain,d.example", "hostmx.example", "binding_group:b"])(
    "parsePolicy, unknown: ignore, does not ignore a stanza whose keyword and name are not apart: %s",
    (written) => {
      const issues = issuesOf(`${written} { ${max} = 5 }`, { unknown: "ignore" });
      expect(issues).toMatchObject([{ rule: "unknown-stanza", line: 1, column: 1 }]);
      expect(issues[0]!.help).toMatch(/did you mean `(?:domain|host|binding_group)`/);
    },
  );

  test.each(["«frobnicate» = 5", "«Relay_Hosts» = ( 127.0.0.0/8 10.0.0.0/8 )", "domain d.example { «x» = [ a = 1 ] }"])(
    "parsePolicy suggests nothing that is not near: %s",
    (written) => {
      expectOneIssue(written, "unknown-option");
      expect(issuesOf(marked(written).text)[0]?.help ?? "").not.toContain("did you mean");
    },
  );

  test("parsePolicy finds nothing inside a stanza that is not ours", () => {
    expectOneIssue(`«frobnicate» "x" { a = 1 b = ( 2 3 ) domain d.example { ${reserve} = five } }`, "unknown-stanza");
  });

  test.each([
    [`«${max}: 5»`, `write \`${max} = 5\``],
    [`«${max}:5»`, `write \`${max} = 5\``],
    [`domain d.example {\n  «${max} :» -1\n}`, `write \`${max} = -1\``],
    [`«${max} :»= 5`, `write \`${max} = 5\``],
    [`«${max}:»`, `write \`${max} = 20\``],
    [`«${max} 5»`, `write \`${max} = 5\``],
  ])("%j is an option without its `=`, whatever is there instead", (written, help) => {
    expectOneIssue(written, "syntax", help);
  });

  test.each([
    [`«domain» = 5`, "unknown-option", /domain "/],
    [`«${max}» { }`, "unknown-stanza", new RegExp(`${max} = `)],
  ] as const)("parsePolicy tells an option from a stanza: %s", (written, rule, help) => {
    expectOneIssue(written, rule, help);
  });

  test("parsePolicy puts the carets under the words behind tabs, CRLF and a byte order mark", () => {
    expectOneIssue(
      "\ufeff\r\n\tdomain\td.example\t{\r\n\t\t/* \t */\t«max_outbund_connections»\t=\t5\r\n\t}\r\n",
      "unknown-option",
    );
  });
});

describe("parsePolicy: values", () => {
  test.each([
    "five",
    "-2",
    "1.5",
    "1e3",
    "0x10",
    "+5",
    "5k",
    "true",
    "-",
    "--1",
    '""',
    '" "',
    '"five"',
    "'-2'",
    "unlimited",
  ])("parsePolicy refuses the value %s", (value) => {
    expectOneIssue(`${max} = «${value}»`, "bad-value", /whole number.*-1/);
    expectOneIssue(`domain d.example {\n\t${scopeMax} = «${value}» # no\n}`, "bad-value", /whole number.*-1/);
  });

  test.each(["( 20 80 )", "(3,20)", '("a" "b")', "[ a = 1 b = ( 1 2 ) ]", "( )", "[ ]"])(
    "parsePolicy refuses the value %s",
    (value) => {
      expectOneIssue(`${max} = «${value}»\n${scopeMax} = 7`, "bad-value", /whole number/);
    },
  );
});

describe("parsePolicy: places", () => {
  const PLACES: Record<string, (inside: string) => string> = {
    global: (inside) => inside,
    binding_group: (inside) => `binding_group g {\n  ${inside}\n}`,
    binding: (inside) => `binding b {\n  ${inside}\n}`,
    "binding_group › binding": (inside) => `binding_group g { binding b {\n  ${inside}\n} }`,
    domain: (inside) => `domain d.example {\n  ${inside}\n}`,
    host: (inside) => `host mx.example {\n  ${inside}\n}`,
    "binding › domain": (inside) => `binding b { domain d.example {\n  ${inside}\n} }`,
    "binding › host": (inside) => `binding b { host mx.example {\n  ${inside}\n} }`,
    "binding_group › domain": (inside) => `binding_group g { domain d.example {\n  ${inside}\n} }`,
    "binding_group › host": (inside) => `binding_group g { host mx.example {\n  ${inside}\n} }`,
    "binding_group › binding › domain": (inside) =>
      `binding_group g { binding b { domain d.example {\n  ${inside}\n} } }`,
    "binding_group › binding › host": (inside) => `binding_group g { binding b { host mx.example {\n  ${inside}\n} } }`,
    'domain "/…/"': (inside) => `domain /a/ {\n  ${inside}\n}`,
  };
  const EVERYWHERE = ["global", "binding_group", "binding", "domain", "host"];
  /** The kinds of scope an option is valid in. */
  const VALID: Record<string, string[]> = {
    [max]: EVERYWHERE,
    [scopeMax]: EVERYWHERE,
    [serverMax]: ["global", "binding_group", "binding"],
    [reserve]: ["global"],
    [`cluster_${max}`]: ["global", "binding", "domain", "host"],
    [`cluster_${scopeMax}`]: EVERYWHERE,
    [`cluster_${serverMax}`]: ["global", "binding_group", "binding"],
  };
  const STANZAS: Record<string, string[]> = {
    "domain x.example": ["global", "binding_group", "binding"],
    "host x.example": ["global", "binding_group", "binding"],
    "binding x": ["global", "binding_group"],
    "binding_group x": ["global"],
  };
  const kindOf = (place: string): string => /\w+(?= "|$)/.exec(place)?.[0] ?? place;
  const kindsIn = (help: string | undefined): string[] =>
    [...new Set(help?.match(/\b(?:global|binding_group|binding|domain|host)\b/g))].sort();

  for (const [option, valid] of Object.entries(VALID)) {
    for (const [place, around] of Object.entries(PLACES)) {
      const grouped = option === `cluster_${max}` && place === "binding_group › binding";
      if (valid.includes(kindOf(place)) && !grouped) {
        test(`parsePolicy accepts ${option} in ${place}`, () => {
          expect(issuesOf(around(`${option} = 5`))).toEqual([]);
        });
      } else {
        test(`parsePolicy refuses ${option} in ${place} and says where it is valid`, () => {
          const written = around(`«${option}» = 5`);
          expectOneIssue(written, "wrong-scope");
          const [issue] = issuesOf(marked(written).text);
          expect(issue?.message).toContain(option);
          expect(kindsIn(issue?.help)).toEqual([...valid].sort());
        });
      }
    }
  }

  for (const [stanza, valid] of Object.entries(STANZAS)) {
    for (const [place, around] of Object.entries(PLACES)) {
      const [keyword = "", name = ""] = stanza.split(" ");
      if (valid.includes(kindOf(place))) {
        test(`parsePolicy accepts a ${keyword} stanza in ${place}`, () => {
          expect(issuesOf(around(`${stanza} { }`))).toEqual([]);
        });
      } else {
        test(`parsePolicy refuses a ${keyword} stanza in ${place} and says where it is valid`, () => {
          const written = around(`«${keyword}» ${name} { ${max} = 5 }`);
          expectOneIssue(written, "wrong-scope");
          expect(kindsIn(issuesOf(marked(written).text)[0]?.help)).toEqual([...valid].sort());
        });
      }
    }
  }

  test("parsePolicy refuses binding_group = … outside a binding", () => {
    for (const place of ["global", "binding_group", "domain", "host"]) {
      const issues = issuesOf(PLACES[place]!("binding_group = g"));
      expect(issues).toMatchObject([{ rule: "wrong-scope" }]);
      expect(underlined(issues[0]!.excerpt)).toContain("binding_group");
      expect(issues[0]?.help).toMatch(/\bbinding\b/);
    }
  });

  test("parsePolicy warns of a cluster_max_outbound_connections that no look-up reaches", () => {
    const text = `binding_group g {\n  domain d.example {\n    cluster_${max} = 5\n  }\n}`;
    const { warnings } = parsePolicy(text);
    expect(warnings).toMatchObject([{ rule: "unreachable", line: 3 }]);
    expect(underlined(warnings[0]!.excerpt)).toContain(`cluster_${max}`);
  });
});

describe("parsePolicy: names", () => {
  const long = `${"a".repeat(63)}.`.repeat(4);
  test.each([
    ["a space in a binding name", 'binding «"a b"» { }'],
    ["a tab in a group name", 'binding_group «"a\tb"» { }'],
    ["a colon in a binding name", 'binding «"a:b"» { }'],
    ["a colon in a bare group name", "binding_group «a:b» { }"],
    ["an empty binding name", 'binding «""» { }'],
    ["typographic quotes around a domain", "domain «“d.example”» { }"],
    ["typographic quotes around a binding", "binding «„b“» { }"],
    ["typographic quotes around the group of a binding", "binding b { binding_group = «‘g’» }"],
    ["a colon in the group of a binding", 'binding b { binding_group = «"a:b"» }'],
    ["an empty label", "domain «a..example» { }"],
    ["a dot in front", "host «.example» { }"],
    ["white space in a domain", 'domain «"a b.example"» { }'],
    ["an empty host name", "host «''» { }"],
    ["nothing but a dot", "domain «.» { }"],
    ["more than 253 octets", `domain «${long}» { }`],
  ])("parsePolicy refuses %s", (_, written) => {
    const { text, piece, line, column } = marked(written);
    const issues = issuesOf(text);
    expect(issues).toMatchObject([{ rule: "bad-name", line, column }]);
    expect(piece.startsWith(underlined(issues[0]!.excerpt))).toBe(true);
  });

  test.each([
    ["nested in both", "binding_group g {\n  binding b { }\n}\nbinding_group h {\n  binding «b» { }\n}", 2, 5],
    ["named, then nested", "binding b {\n  binding_group = g\n}\nbinding_group h { binding «b» { } }", 2, 4],
    ["nested, then named", 'binding_group h { binding b { } }\n\nbinding b { binding_group = «"g"» }', 1, 3],
    ["named twice", "binding b {\n  binding_group = g\n  binding_group = «h»\n}", 2, 3],
  ])("parsePolicy refuses a binding in two groups and names both lines: %s", (_, written, first, second) => {
    expectOneIssue(written, "duplicate");
    const [issue] = issuesOf(marked(written).text);
    expect(issue?.message).toMatch(/`b`/);
    expect(issue?.message).toMatch(/`g`/);
    expect(issue?.message).toMatch(/`h`/);
    expect(issue?.message).toMatch(new RegExp(`limits\\.conf:${first}\\b.*limits\\.conf:${second}\\b`));
  });
});

describe("parsePolicy: patterns", () => {
  /** What RE2 cannot run, and a word of what to write instead. */
  const UNSUPPORTED: [string, string, RegExp][] = [
    ["a look-ahead", "a«(?=»b)", /./],
    ["a negative look-ahead", "^«(?!»www)", /stanza/],
    ["a look-behind", "«(?<=»a)b", /./],
    ["a negative look-behind", "«(?<!»a)b", /stanza/],
    ["a back-reference", String.raw`^(a|b)«\1»$`, /\(\?:.*\|.*\)/],
    ["a named back-reference", "(?P<x>a)«(?P=»x)", /\(\?:.*\|.*\)/],
    ["a back-reference by \\k", String.raw`(?P<x>a)«\k»<x>`, /\(\?:.*\|.*\)/],
    ["recursion", "(a«(?R»)?b)", /\(\?:.*\|.*\)/],
    ["an atomic group", "a«(?>»b|c)", /\(\?:/],
    ["a possessive quantifier", "^a«++»b", /without.*\+/],
    ["a possessive star", "^a«*+»b", /without.*\+/],
    ["a possessive question mark", "^a«?+»b", /without.*\+/],
    ["a possessive count", "^a«{1,3}+»b", /without.*\+/],
    ["the end \\Z", String.raw`example\.com«\Z»`, /`\$`/],
    ["white space \\h", String.raw`a«\h»b`, /./],
    ["a line end \\R", String.raw`a«\R»b`, /./],
    ["the flag x", "«(?x» a b )", /white space/],
    ["the flag x among others", "«(?ix»:ab)", /white space/],
    ["a comment", "a«(?#»b)", /./],
  ];

  test.each(UNSUPPORTED)("parsePolicy refuses %s at its place and says what to write instead", (_, pattern, help) => {
    for (const quoted of [`"/${pattern}/"`, `'/${pattern}/'`, `/${pattern}/`]) {
      const { text, piece, line, column } = marked(`binding b {\n\tdomain ${quoted} {\n\t\t${max} = 5\n\t}\n}`);
      const issues = issuesOf(text);
      expect(issues).toMatchObject([{ rule: "bad-pattern", line, column }]);
      expect(underlined(issues[0]!.excerpt).startsWith(piece)).toBe(true);
      expect(issues[0]!.help).toMatch(help);
    }
  });

  test.each([
    ["a `(` too many", "«(»a|b", ")"],
    ["a `)` too many", "a|b«)»", ")"],
    ["a `[` too many", "a«[»b", "]"],
    ["a quantifier of nothing", "«*»a", "*"],
    ["a class that ends before it begins", "[«z-a»]", "z-a"],
    ["a backslash at the end", String.raw`'/a«\»/'`, "\\"],
    ["a count beyond all reason", "a«{5000}»", "5000"],
    ["an unknown class", "[«[:foo:]»]", "foo"],
  ])("parsePolicy refuses %s inside the pattern", (_, pattern, said) => {
    const { text, line } = marked(`\n  domain ${pattern.startsWith("'") ? pattern : `"/${pattern}/"`} { ${max} = 5 }`);
    const issues = issuesOf(text);
    expect(issues).toMatchObject([{ rule: "bad-pattern", line }]);
    const [issue] = issues as [Issue];
    const inside = text.indexOf("/") + 1;
    const start = text.split("\n")[1]!.indexOf("/") + 2;
    expect(issue.column).toBeGreaterThanOrEqual(start);
    expect(issue.column).toBeLessThanOrEqual(start + text.lastIndexOf("/") - inside);
    expect(`${issue.message} ${underlined(issue.excerpt)}`).toContain(said);
    expect(textAt(text, issue).startsWith(underlined(issue.excerpt))).toBe(true);
  });

  test.each([
    ["in a class before", "/^[++]a«++»$/"],
    ["escaped before", String.raw`/^\(?=a«(?=»b)/`],
    ["behind an escaped backslash", String.raw`/\\Z«\Z»/`],
  ])("parsePolicy is not misled by the same characters %s", (_, pattern) => {
    const { text, piece, line, column } = marked(`domain ${pattern} { }`);
    const issues = issuesOf(text);
    expect(issues).toMatchObject([{ rule: "bad-pattern", line, column }]);
    expect(underlined(issues[0]!.excerpt).startsWith(piece)).toBe(true);
  });

  test.each([
    [`domain «"/a\\.fr$"» {\n  ${max} = 5\n}`, "`/a\\.fr$/`"],
    [`domain «/a\\.fr$» {\n  ${max} = 5\n}`, "`/a\\.fr$/`"],
    [`host «"/a\\.fr$/i"» { ${max} = 5 }`, "`/a\\.fr$/`"],
  ])("parsePolicy refuses a pattern without its closing slash: %j", (written, help) => {
    const { text, piece, line, column } = marked(written);
    const issues = issuesOf(text);
    expect(issues).toMatchObject([{ rule: "bad-pattern", line, column }]);
    expect(underlined(issues[0]!.excerpt)).toBe(piece);
    expect(issues[0]!.help).toContain(help);
  });

  test("parsePolicy refuses flags behind a bare pattern", () => {
    const text = `host /a\\.fr$/i { ${max} = 5 }`;
    const issues = issuesOf(text);
    expect(issues).toHaveLength(1);
    expect(underlined(issues[0]!.excerpt)).toContain("/i");
    expect(issues[0]!.help).toContain("`/a\\.fr$/`");
  });

  test("parsePolicy refuses an empty pattern", () => {
    for (const pattern of ['"//"', "'/'"])
      expect(issuesOf(`domain ${pattern} { }`)).toMatchObject([{ rule: "bad-pattern" }]);
  });

  test("parsePolicy refuses a pattern as the name of a binding or a group", () => {
    for (const keyword of ["binding", "binding_group"]) {
      expect(issuesOf(`${keyword} "/mta-[0-9]/" { ${max} = 5 }`)).toMatchObject([{ rule: "bad-name" }]);
      expect(issuesOf(`${keyword} /mta-[0-9]/ { ${max} = 5 }`)).toMatchObject([{ rule: "bad-name" }]);
    }
  });
});

describe("parsePolicy: many mistakes", () => {
  test("parsePolicy lists all mistakes of a file, in source order", () => {
    const text = [
      "max_outbund_connections = 5",
      `domain "/a(?=b)/" {`,
      `  ${max} = five`,
      `  ${reserve} = 5`,
      "}",
      'include "other.conf"',
      `domian d.example { ${max} = 5 }`,
      `${scopeMax} 5`,
      'binding "a b" { }',
      "binding_group g { binding b { } }",
      "binding_group h { binding b { } }",
      `host mx.example { ${max} = ( 1 2 ) ${serverMax} = 5 }`,
      "}",
      `domain e.example { ${max} = 5`,
    ].join("\n");
    expect(issuesOf(text).map(({ line, rule }) => `${line} ${rule}`)).toEqual([
      "1 unknown-option",
      "2 bad-pattern",
      "3 bad-value",
      "4 wrong-scope",
      "6 include",
      "7 unknown-stanza",
      "8 syntax",
      "9 bad-name",
      "11 duplicate",
      "12 bad-value",
      "12 wrong-scope",
      "13 syntax",
      "14 syntax",
    ]);
  });

  test("parsePolicy lists the first 50 in source order, of whatever kind, however many there are", () => {
    const bad = `${max} = five\n`.repeat(12_000);
    const wrong = "frobnicate 5\n".repeat(12_000);
    for (const text of [`${wrong}${bad}`, `${bad}${wrong}`]) {
      expect(issuesOf(text).map(({ line }) => line)).toEqual(Array.from({ length: 50 }, (_, index) => index + 1));
    }
  });

  test("parsePolicy lists the first 50", () => {
    const lines = Array.from({ length: 120 }, (_, index) => (index % 2 ? `${max} = five` : "frobnicate 5"));
    expect(issuesOf(lines.join("\n")).map(({ line }) => line)).toEqual(
      Array.from({ length: 50 }, (_, index) => index + 1),
    );
  });

  test("parsePolicy checks what is inside a stanza that is wrong itself", () => {
    const text = `domian d.example {\n  ${max} = five\n}\nbinding "a b" {\n  ${max} = five\n}\ndomain "/(/" {\n  ${max} = five\n}`;
    expect(issuesOf(text).map(({ line, rule }) => `${line} ${rule}`)).toEqual([
      "1 unknown-stanza",
      "2 bad-value",
      "4 bad-name",
      "5 bad-value",
      "7 bad-pattern",
      "8 bad-value",
    ]);
  });
});

describe("PolicyError.message", () => {
  test("PolicyError.message reads like a compiler's", () => {
    const text = `domain d.example {\n  ${max} = 6\n}\n  max_outbund_connections = 5\n`;
    expect(errorOf(text).message).toBe(
      [
        "limits.conf:4:3: unknown option `max_outbund_connections`",
        "",
        "  4 |   max_outbund_connections = 5",
        "    |   ^^^^^^^^^^^^^^^^^^^^^^^",
        "  help: did you mean `max_outbound_connections`?",
      ].join("\n"),
    );
  });

  test("PolicyError.message holds every issue", () => {
    const error = errorOf(`frobnicate = 1\n${max} = five\n${reserve}\n`);
    expect(error.code).toBe("ERR_LIMITER_POLICY");
    expect(error.issues).toHaveLength(3);
    for (const { message, help, source, line, column, excerpt } of error.issues) {
      expect(error.message).toContain(`${source}:${line}:${column}: ${message}\n\n${excerpt}`);
      if (help !== undefined) expect(error.message).toContain(`  help: ${help}`);
    }
  });

  test("PolicyError.message lines the margin up in a long file", () => {
    const { excerpt } = issuesOf(`${"\n".repeat(99)}frobnicate = 1`)[0]!;
    expect(excerpt).toBe("  100 | frobnicate = 1\n      | ^^^^^^^^^^");
  });

  test.each([
    ["a value", `${max} = "ESC[31mfive"`],
    ["a bare value", `${max} = ESC[31m`],
    ["an option", "ESCfoo = 5"],
    ["an option in quotes", '"ESCfoo" = 5'],
    ["an option without a value", '"ESCfoo" ='],
    ["a stanza", "ESCfoo { }"],
    ["a stanza in quotes", '"ESCfoo" { }'],
    ["a binding name", 'binding "ESC[31mb" { }'],
    ["a domain name", 'domain "ESC[31mb.example" { }'],
    ["a pattern", 'domain "/(ESC[31m/" { }'],
    ["a pattern without its end", 'domain "/ESC[31m" { }'],
    ["a word alone", '"ESC[31m"'],
    ["a comment behind a mistake", "foo = 5 # ESC[31m"],
    ["a missing brace", 'domain "ESC[31m"\n}'],
    ["a group", 'binding "b" { binding_group = "ESC[31mg" }'],
    ["two groups", 'binding "b" { binding_group = "g" }\nbinding_group "h" { binding "b" { } } # ESC'],
    ["an include", 'include "ESC[31ma.conf"'],
    ["a list", `${max} = ( "ESC[31m" `],
  ])("PolicyError.message lets no escape sequence through: %s", (_, written) => {
    for (const control of ["\u001b", "\u009b", "\u0007", "\b", "\u007f"]) {
      const error = errorOf(written.replaceAll("ESC", control));
      for (const text of [error.message, ...error.issues.flatMap(({ message, help }) => [message, help ?? ""])]) {
        expect(text).not.toMatch(CONTROL);
      }
    }
  });

  test("PolicyError.message lets no carriage return through", () => {
    const error = errorOf(`frobnicate = 5\r\n${max} = "fi\rve"\r\n`);
    expect(error.message).not.toContain("\r");
  });

  test.each([
    ["an option", `${"x".repeat(100_000)} = 5`],
    ["a value", `${max} = ${"5".repeat(100_000)}`],
    ["a quoted value", `${max} = "${"5 ".repeat(50_000)}"`],
    ["a stanza", `${"x".repeat(100_000)} { }`],
    ["a binding name", `binding "${":".repeat(100_000)}" { }`],
    [
      "a long group",
      `binding ${"b".repeat(100_000)} { binding_group = g } binding_group h { binding ${"b".repeat(100_000)} { } }`,
    ],
    ["a domain name", `domain ${"x".repeat(100_000)} { }`],
    ["a pattern", `domain "/${"a".repeat(100_000)}(?=b)/" { }`],
    ["a pattern without its end", `domain "/${"a".repeat(100_000)}" { }`],
    ["a word alone", "x".repeat(100_000)],
    ["a name without its brace", `domain ${"x".repeat(100_000)}\n}`],
    ["an equals sign forgotten", `${max} ${"5".repeat(100_000)}`],
    ["a quote not closed", `domain "${"x".repeat(100_000)}`],
    ["an include", `include "${"x".repeat(100_000)}"`],
    ["a list not closed", `${max} = ( ${"5 ".repeat(50_000)}`],
    ["a mistake far to the right", `${" ".repeat(100_000)}frobnicate = 5${" ".repeat(100_000)}`],
    ["a mistake behind tabs", `${"\t".repeat(100_000)}frobnicate = 5 ${"#".repeat(100_000)}`],
  ])("PolicyError.message is short for a very long line: %s", (_, text) => {
    const error = errorOf(text);
    for (const { excerpt } of error.issues) {
      for (const line of excerpt.split("\n")) expect(line.length).toBeLessThan(250);
      expect(underlined(excerpt)).not.toBe("");
    }
    expect(error.message.length).toBeLessThan(1500);
  });

  test("PolicyError.message shows the words meant, far to the right in a long line", () => {
    const text = `${`domain d.example { ${max} = 5 } `.repeat(1000)}frobnicate = 5 ${"domain e.example { } ".repeat(1000)}`;
    const [issue] = issuesOf(text);
    expect(underlined(issue!.excerpt)).toBe("frobnicate");
    expect(textAt(text, issue!)).toMatch(/^frobnicate/);
  });
});
