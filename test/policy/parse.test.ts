// Policy text that is right: what each form of the syntax means, and what is skipped without harm.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { definePolicy, type ParseOptions, type PolicyInput, parsePolicy } from "../../src/index.js";
import { issuesOf, limitsOf, marked, max, scopeMax, serverMax, textAt, underlined } from "./reading.js";

const ignore: ParseOptions = { source: "limits.conf", unknown: "ignore" };
const fixture = readFileSync(join(import.meta.dirname, "fixtures", "ecelerity.conf"), "utf8");

/** That the text says the same as the object, with nothing to warn of but what deserves a look in both. */
function expectSays(text: string, input: PolicyInput): void {
  const policy = parsePolicy(text);
  const object = definePolicy(input);
  expect(String(policy)).toBe(String(object));
  expect(policy.warnings.map(({ rule }) => rule)).toEqual(object.warnings.map(({ rule }) => rule));
}

describe("parsePolicy: options and stanzas", () => {
  test("parsePolicy reads an empty text as a policy without limits", () => {
    for (const text of ["", " \n\t\r\n", "# nothing", "/* nothing */", "\ufeff"]) expectSays(text, {});
  });

  test("parsePolicy reads every option", () => {
    const options = [max, scopeMax, serverMax].flatMap((option) => [option, `cluster_${option}`]);
    for (const option of [...options, "server_reserve_outbound_connections"]) {
      expectSays(`${option} = 7`, { [option]: 7 });
    }
  });

  test("parsePolicy reads stanzas within stanzas", () => {
    const text = `
      binding_group "g" {
        binding "b" { domain "d.example" { ${max} = 1 } host "mx.example" { ${max} = 2 } }
        domain "d.example" { ${max} = 3 }
        host "mx.example" { ${max} = 4 }
      }
      binding "c" { domain "d.example" { ${max} = 5 } host "mx.example" { ${max} = 6 } }
      domain "d.example" { ${max} = 7 }
      host "mx.example" { ${max} = 8 }`;
    const names = (domain: number, host: number) => ({
      domain: { "d.example": { [max]: domain } },
      host: { "mx.example": { [max]: host } },
    });
    expectSays(text, {
      binding_group: { g: { binding: { b: names(1, 2) }, ...names(3, 4) } },
      binding: { c: names(5, 6) },
      ...names(7, 8),
    });
  });

  test.each(["MAX_OUTBOUND_CONNECTIONS", "Max_Outbound_Connections", "max_Outbound_connections"])(
    "parsePolicy reads %s without regard to case",
    (option) => {
      expectSays(`${option} = 7`, { [max]: 7 });
    },
  );

  test("parsePolicy reads stanza keywords without regard to case", () => {
    expectSays(
      `BINDING_GROUP g { Binding b { Domain d.example { ${max} = 1 } } } Host mx.example { ${max} = 2 } DOMAIN d.example { ${max} = 3 }`,
      {
        binding_group: { g: { binding: { b: { domain: { "d.example": { [max]: 1 } } } } } },
        host: { "mx.example": { [max]: 2 } },
        domain: { "d.example": { [max]: 3 } },
      },
    );
  });

  test("parsePolicy keeps the case of binding and group names, and not that of domains and hosts", () => {
    expectSays(
      `binding mta { ${max} = 1 } binding MTA { ${max} = 2 } domain "A.Example." { ${max} = 3 } host MX.example { ${max} = 4 }`,
      {
        binding: { mta: { [max]: 1 }, MTA: { [max]: 2 } },
        domain: { "a.example": { [max]: 3 } },
        host: { "mx.example": { [max]: 4 } },
      },
    );
  });

  test("parsePolicy puts a binding into the group it names, as nesting does", () => {
    const written = parsePolicy(`binding b { binding_group = "g" } binding_group g { ${max} = 5 }`);
    const nested = parsePolicy(`binding_group g { ${max} = 5 binding b { } }`);
    for (const policy of [written, nested]) {
      expect(limitsOf(policy, { binding: "b", domain: "d.example" })).toEqual([5]);
      expect(limitsOf(policy, { binding: "c", domain: "d.example" })).toEqual([32]);
    }
  });

  test.each([
    ["7", 7],
    ['"7"', 7],
    ["'7'", 7],
    ["0", 0],
    ['"0"', 0],
    ["-1", -1],
    ['"-1"', -1],
    ["1000000", 1_000_000],
  ])("parsePolicy reads the value %s as %d", (value, limit) => {
    expectSays(`${max} = ${value}`, { [max]: limit });
    const limits = limitsOf(parsePolicy(`${max} = ${value}`), { domain: "d.example" });
    expect(limits).toEqual(limit === -1 ? [] : [limit]);
  });
});

describe("parsePolicy: names and quotes", () => {
  test.each([
    ["in double quotes", 'domain "d.example" {', "d.example"],
    ["in single quotes", "domain 'd.example' {", "d.example"],
    ["bare", "domain d.example {", "d.example"],
    ["bare, the brace right behind it", "domain d.example{", "d.example"],
    ["quoted, no space on either side", 'domain"d.example"{', "d.example"],
    ["an address literal", 'domain "[192.0.2.1]" {', "192.0.2.1"],
    ["an IPv6 literal", 'domain "[IPv6:2001:db8::1]" {', "[IPv6:2001:DB8:0::1]"],
    ["a bare address", "domain 192.0.2.1 {", "192.0.2.1"],
    ["a name of Object.prototype", "domain constructor {", "constructor"],
  ])("parsePolicy reads a name: %s", (_, opening, name) => {
    expectSays(`${opening} ${max} = 7 }`, { domain: { [name]: { [max]: 7 } } });
  });

  test.each([
    ["an escaped double quote", String.raw`"a\"b"`, 'a"b'],
    ["an escaped backslash", String.raw`"a\\b"`, String.raw`a\b`],
    ["an escaped backslash at the end", String.raw`"ab\\"`, "ab\\"],
    ["an escaped backslash before a quote that closes", String.raw`"a\"\\"`, 'a"\\'],
    ["every other backslash stays", String.raw`"a\.b\n\'"`, String.raw`a\.b\n\'`],
    ["three backslashes and a dot", String.raw`"a\\\.b"`, String.raw`a\\.b`],
    ["no escapes in single quotes", String.raw`'a\\b\'`, String.raw`a\\b${"\\"}`],
    ["double quotes in single quotes", `'a"b'`, 'a"b'],
    ["single quotes in double quotes", `"a'b"`, "a'b"],
    ["what must be quoted", `"a#b/*c=d{e}f[g]h(i)"`, "a#b/*c=d{e}f[g]h(i)"],
  ])("parsePolicy reads a quoted name: %s", (_, written, name) => {
    expectSays(`binding ${written} { ${max} = 7 }`, { binding: { [name]: { [max]: 7 } } });
  });

  test.each([
    ["quoted", String.raw`"/^(a|b)\.fr$/"`, String.raw`/^(a|b)\.fr$/`],
    ["in single quotes", String.raw`'/^(a|b)\.fr$/'`, String.raw`/^(a|b)\.fr$/`],
    ["bare", String.raw`/google\.(com|es)$/`, String.raw`/google\.(com|es)$/`],
    ["bare, with characters that mean something elsewhere", "/^[a\"'=#]{2}(b)$/", "/^[a\"'=#]{2}(b)$/"],
    ["bare, with an escaped slash", String.raw`/a\/b/`, String.raw`/a\/b/`],
    ["bare, with two backslashes", String.raw`/a\\b/`, String.raw`/a\\b/`],
    ["quoted, with two backslashes", String.raw`"/a\\.b/"`, String.raw`/a\.b/`],
  ])("parsePolicy reads a pattern: %s", (_, written, pattern) => {
    for (const keyword of ["domain", "host"]) {
      const input: PolicyInput = { [keyword]: { [pattern]: { [max]: 7 } } };
      expectSays(`${keyword} ${written} { ${max} = 7 }`, input);
      expectSays(`${keyword} ${written}{${max}=7}`, input);
    }
  });

  test("parsePolicy keeps the order of pattern stanzas", () => {
    const policy = parsePolicy(`domain /z/ { ${max} = 1 } domain /a/ { ${max} = 2 }`);
    expect(limitsOf(policy, { domain: "az.example" })).toEqual([1]);
  });
});

describe("parsePolicy: comments and white space", () => {
  const plain = String(parsePolicy(`${max} = 7 domain "d.example" { ${scopeMax} = 3 }`));

  test.each([
    ["on one line", `${max}=7 domain "d.example"{${scopeMax}=3}`],
    ["one word a line", `${max}\n=\n7\ndomain\n"d.example"\n{\n${scopeMax}\n=\n3\n}\n`],
    ["blank lines and tabs", `\n\n\t${max}\t=\t7\n\n\tdomain\t"d.example"\t{\n\n\t\t${scopeMax}\t=\t3\n\t}\n\n`],
    ["CRLF", `${max} = 7\r\ndomain "d.example" {\r\n  ${scopeMax} = 3\r\n}\r\n`],
    ["a byte order mark", `\ufeff${max} = 7\ndomain "d.example" { ${scopeMax} = 3 }`],
    ["# to the end of the line", `# a\n${max} = 7 # b = 1 { "\n#c\ndomain "d.example" { # d }\n${scopeMax} = 3 } # e`],
    ["# right behind a value", `${max} = 7# seven\ndomain "d.example" { ${scopeMax} = 3# }\n}`],
    ["# to the end of the line, CRLF", `# a\r\n${max} = 7 # b\r\ndomain "d.example" { ${scopeMax} = 3 }`],
    [
      "/* */ anywhere",
      `/* a */ ${max} /* = */ = /* 6 */ 7 /* b */ domain /* c */ "d.example" /* { */ { ${scopeMax} = 3 }`,
    ],
    ["/* */ over lines", `/* a\n b = { " ' \n*/ ${max} = 7\ndomain "d.example" {\n/**/ ${scopeMax} = 3\n/***/ }`],
    ["/* */ does not nest", `/* a /* b */ ${max} = 7 domain "d.example" { ${scopeMax} = 3 }`],
    ["/* in a # comment", `# /* a\n${max} = 7 domain "d.example" { ${scopeMax} = 3 }`],
    ["# in a /* comment", `/* # */ ${max} = 7 domain "d.example" { ${scopeMax} = 3 }`],
    ["/* right behind a brace", `${max} = 7 domain "d.example" {/* a */${scopeMax} = 3 /* b */}`],
  ])("parsePolicy reads the same policy: %s", (_, text) => {
    const policy = parsePolicy(text);
    expect(String(policy)).toBe(plain);
    expect(policy.warnings).toEqual([]);
  });

  test("parsePolicy reads no comment inside quotes", () => {
    expectSays(`binding "a#b" { ${max} = 7 } binding "c/*d" { ${max} = 8 } binding "*/" { }`, {
      binding: { "a#b": { [max]: 7 }, "c/*d": { [max]: 8 }, "*/": {} },
    });
  });
});

describe("parsePolicy: written twice", () => {
  test.each([
    ["domain", "d.example", "D.Example."],
    ["domain", String.raw`/\.fr$/`, String.raw`/\.fr$/`],
    ["domain", "192.0.2.1", "[192.0.2.1]"],
    ["host", "mx.example", "MX.example"],
    ["binding", "b", "b"],
    ["binding_group", "g", "g"],
  ])("parsePolicy merges %s stanzas: %s and %s", (keyword, one, other) => {
    const text = `${keyword} '${one}' { ${max} = 1 } ${keyword} '${other}' { ${scopeMax} = 2 }`;
    expectSays(text, { [keyword]: { [one]: { [max]: 1, [scopeMax]: 2 } } });
  });

  test("parsePolicy merges what is inside a stanza written twice", () => {
    expectSays(
      `binding b { domain d.example { ${max} = 1 } } binding b { domain d.example { ${scopeMax} = 2 } ${max} = 3 }`,
      { binding: { b: { [max]: 3, domain: { "d.example": { [max]: 1, [scopeMax]: 2 } } } } },
    );
  });

  test.each([
    ["in one stanza", `domain d.example {\n  ${max} = 5\n  «${max}» = 7\n}`, 2, 3],
    ["in two stanzas of one name", `domain d.example { ${max} = 5 }\n\ndomain D.example { «${max}» = 7 }`, 1, 3],
    ["written otherwise", `domain d.example {\n  ${max} = 5\n\n  «${max.toUpperCase()}» = "7"\n}`, 2, 4],
  ])("parsePolicy warns of an option set twice %s, and the later one wins", (_, written, first, second) => {
    const { text, piece, line, column } = marked(written);
    const policy = parsePolicy(text, { source: "limits.conf" });
    expect(limitsOf(policy, { domain: "d.example" })).toEqual([7]);
    expect(policy.warnings).toMatchObject([{ rule: "duplicate", source: "limits.conf", line, column }]);
    const [warning] = policy.warnings;
    expect(underlined(warning!.excerpt)).toBe(piece);
    expect(warning!.message).toContain(max);
    expect(warning!.message).toMatch(new RegExp(`limits\\.conf:${first}\\b.*limits\\.conf:${second}\\b`));
  });

  test("parsePolicy does not take the same option of two stanzas for one", () => {
    const text = `${max} = 1 domain a.example { ${max} = 2 } domain b.example { ${max} = 3 } domain /a/ { ${max} = 4 }`;
    expect(parsePolicy(text).warnings).toEqual([]);
  });
});

describe("parsePolicy: what is not ours", () => {
  test.each([
    "Ports = ( 20 80 )",
    "Codes = (3,20)",
    'Names = ("a" "b")',
    "Names = ('a', 'b')",
    "Relay_Hosts = ( 127.0.0.0/8 10.0.0.0/8 )",
    "Nothing = ()",
    "Nothing = ( )",
    'Odd = ( "a)" "(" \'}\' "]" )',
    "Long = (\n  1 # )\n  2 /* ) */\n)",
    "Map = [ a = 1 b = ( 1 2 ) ]",
    'Map = [ a = [ b = "]" ] c = "[" ]',
    "Map = []",
    "Mode = 0644",
    "Bind_Address = 10.10.10.10",
    "Rate = 100/60",
    "Uri = digest:///opt/msys/etc/passwd",
    'Uri = "digest:///opt/msys/etc/passwd"',
    'Text = "over\n two { lines"',
    `Text = "${max} = 9"`,
    "Text = 'a \"quoted\" }'",
    'Text = "an escaped \\" and }"',
    "apn { }",
    "apn {}",
    "ThreadPool accept-pool { Concurrency = 4 }",
    'Control_Listener { Listen "/tmp/2025" { File_Mode = 0666 } Listen ":2025" { } }',
    'a { b { c { d { e = "}" } } } }',
    "a { # }\n }",
    "a { /* } */ }",
    'a { b = ( "{" ) }',
    "a { q = \"SELECT 1\n FROM t /* { */ WHERE u = 'x' # {\n\" }",
    `a { ${max} = 9 domain d.example { ${max} = 9 } }`,
  ])("parsePolicy, unknown: ignore, skips %j", (foreign) => {
    const around = (stanza: string) => `${max} = 3 domain d.example { ${stanza} ${max} = 7 } domain e.example { }`;
    expect(issuesOf(around(foreign))).not.toEqual([]);
    const policy = parsePolicy(around(foreign), ignore);
    expect(String(policy)).toBe(String(parsePolicy(around(""))));
    const global = parsePolicy(`${foreign}\n${max} = 3 domain d.example { ${max} = 7 } ${foreign}`, ignore);
    expect(limitsOf(global, { domain: "d.example" })).toEqual([7]);
    expect(limitsOf(global, { domain: "e.example" })).toEqual([3]);
  });

  test.each([
    ["unknown-option", "«Retry_Interval» = 1200"],
    ["unknown-option", "domain d.example { «Relay_Hosts» = ( 127.0.0.0/8 10.0.0.0/8 ) }"],
    ["unknown-stanza", "«apn» { }"],
    ["unknown-stanza", 'binding b { «scriptlet» "s" { script "x" { source = "y" } } }'],
  ])("parsePolicy, unknown: ignore, warns with %s of %s", (rule, written) => {
    const { text, piece, line, column } = marked(written);
    const { warnings } = parsePolicy(text, ignore);
    expect(warnings).toMatchObject([{ rule, source: "limits.conf", line, column }]);
    expect(underlined(warnings[0]!.excerpt)).toBe(piece);
    expect(issuesOf(text)).toMatchObject([{ rule, line, column }]);
  });

  test.each([
    ["max_outbund_connections", max],
    ["Max_Outbound_Conections", max],
    ["max_outbound_connection", max],
    ["scope_max_outbuond_connections", scopeMax],
    ["server_max_outbound_connectoins", serverMax],
    ["server_reserve_outbound_connection", "server_reserve_outbound_connections"],
    ["cluster_max_outbound_conections", "cluster_max_outbound_connections"],
  ])("parsePolicy, unknown: ignore, still refuses %s, a near miss of %s", (slip, meant) => {
    for (const written of [`«${slip}» = 7`, `domain d.example { Retry_Interval = 5 «${slip}» = 7 }`]) {
      const { text, piece, line, column } = marked(written);
      const issues = issuesOf(text, ignore);
      expect(issues).toMatchObject([{ rule: "unknown-option", line, column }]);
      expect(underlined(issues[0]!.excerpt)).toBe(piece);
      expect(issues[0]!.help).toContain(`\`${meant}\``);
    }
  });
});

describe("parsePolicy: a whole ecelerity.conf", () => {
  test("parsePolicy, unknown: ignore, reads its limits and nothing else", () => {
    const policy = parsePolicy(fixture, { source: "ecelerity.conf", unknown: "ignore" });
    const expected: PolicyInput = {
      [serverMax]: 20_000,
      server_reserve_outbound_connections: 50,
      [max]: 20,
      binding_group: {
        bulk: {
          [scopeMax]: 400,
          binding: { "bulk-1": {}, "bulk-2": { domain: { [String.raw`/google\.(com|es)$/`]: { [max]: 7 } } } },
        },
      },
      binding: { shared: { [max]: -1 } },
      domain: {
        "yahoo.com": { [max]: 5 },
        [String.raw`/^(wanadoo|orange)\.fr$/`]: { [scopeMax]: 3 },
      },
      host: { "aspmx.l.google.com": { [max]: 32 } },
    };
    expect(String(policy)).toBe(String(definePolicy(expected)));
    const rules = new Set(policy.warnings.map(({ rule }) => rule));
    expect([...rules].sort()).toEqual(["bad-value", "unknown-option", "unknown-stanza"]);
    // Momentum wants the reserve at 0 beside scope_max in a domain.
    expect(policy.warnings.filter(({ rule }) => rule === "bad-value")).toMatchObject([{ line: 34 }]);
  });

  test("parsePolicy, unknown: ignore, reads it the same with CRLF and a byte order mark", () => {
    const windows = `\ufeff${fixture.replaceAll("\n", "\r\n")}`;
    expect(String(parsePolicy(windows, ignore))).toBe(String(parsePolicy(fixture, ignore)));
  });

  test.each([
    ["Max_Outbound_Connections = 5", "Max_Outbund_Connections", max],
    ["scope_max_outbound_connections = 400", "scope_max_outbound_conections", scopeMax],
    [
      "Server_Reserve_Outbound_Connections",
      "Server_Reserve_Outbond_Connections",
      "server_reserve_outbound_connections",
    ],
  ])("parsePolicy, unknown: ignore, finds the one slip in it: %s", (right, slip, meant) => {
    const [option = ""] = right.split(" ");
    const text = fixture.replace(right, right.replace(option, slip));
    const issues = issuesOf(text, ignore);
    expect(issues).toMatchObject([{ rule: "unknown-option" }]);
    expect(underlined(issues[0]!.excerpt)).toBe(slip);
    expect(textAt(text, issues[0]!)).toMatch(new RegExp(`^${slip}`));
    expect(issues[0]!.help).toContain(`\`${meant}\``);
  });

  test("parsePolicy refuses what is not ours when not asked to ignore it", () => {
    const rules = new Set(issuesOf(fixture).map(({ rule }) => rule));
    expect([...rules].sort()).toEqual(["unknown-option", "unknown-stanza"]);
  });
});

describe("parsePolicy: the rest", () => {
  test.each([
    '«include» "limits.d"',
    "«include» limits.d",
    '«readonly_include» "a.conf"',
    'domain d.example { «Include» "a.conf" }',
  ])("parsePolicy reads no files: %s is an issue", (written) => {
    const { text, line } = marked(written);
    expect(issuesOf(text)).toMatchObject([{ rule: "include", line }]);
    expect(issuesOf(text, ignore)).toMatchObject([{ rule: "include", line }]);
    expect(underlined(issuesOf(text)[0]!.excerpt)).toMatch(/include|limits\.d|a\.conf/i);
  });

  test.each([
    ['include = "a.conf"', 'include "a.conf"'],
    ["Readonly_Include=a.conf", 'readonly_include "a.conf"'],
    ['include = ( "a.conf" "b.conf" )', 'include "'],
  ])("parsePolicy, unknown: ignore, does not ignore an include that is written as an option: %s", (written, help) => {
    for (const unknown of ["error", "ignore"] as const) {
      const issues = issuesOf(`${written}\n${max} = 5`, { unknown });
      expect(issues).toHaveLength(1);
      expect(issues[0]!.help).toContain(help);
    }
  });

  test("parsePolicy names its source, policy unless told", () => {
    expect(parsePolicy("").source).toBe("policy");
    expect(parsePolicy("", { source: "limits.conf" }).source).toBe("limits.conf");
    expect(issuesOf("x = 1", {})).toMatchObject([{ source: "policy" }]);
  });

  test("parsePolicy returns a frozen policy", () => {
    const policy = parsePolicy(`${max} = 1 ${max} = 2`);
    expect(Object.isFrozen(policy)).toBe(true);
    expect(Object.isFrozen(policy.warnings)).toBe(true);
    expect(policy.warnings.every((warning) => Object.isFrozen(warning))).toBe(true);
  });
});
