// A policy as a plain object: the same as the text, with the same checks, and paths where a text has lines.

import { runInNewContext } from "node:vm";
import { describe, expect, test } from "vitest";
import { definePolicy, PolicyError, type PolicyInput, parsePolicy } from "../../src/index.js";
import { type Issue, issuesBy, limitsOf, max, scopeMax, serverMax } from "./reading.js";

const reserve = "server_reserve_outbound_connections";
const d = "d.example";

/** The issues of anything at all, as a program without types may pass it. */
const issuesOf = (input: unknown): readonly Issue[] => issuesBy(() => definePolicy(input as PolicyInput));

describe("definePolicy: the same as the text", () => {
  test.each<[string, PolicyInput, string]>([
    ["nothing", {}, ""],
    ["a global limit", { [max]: 5 }, `${max} = 5`],
    ["unlimited and closed", { [max]: -1, [scopeMax]: 0 }, `${max} = -1 ${scopeMax} = 0`],
    [
      "every option",
      { [serverMax]: 1, [reserve]: 2, cluster_max_outbound_connections: 3, cluster_scope_max_outbound_connections: 4 },
      `${serverMax} = 1 ${reserve} = 2 cluster_${max} = 3 cluster_${scopeMax} = 4`,
    ],
    ["a domain", { domain: { [d]: { [max]: 5 } } }, `domain ${d} { ${max} = 5 }`],
    ["names in another form", { domain: { "D.EXAMPLE.": { [max]: 5 } } }, `domain ${d} { ${max} = 5 }`],
    ["an empty host", { host: { mx: {} } }, "host mx { }"],
    [
      "patterns in order",
      { domain: { "/z/": { [max]: 1 }, "/a/": { [max]: 2 } } },
      `domain "/z/" { ${max} = 1 } domain "/a/" { ${max} = 2 }`,
    ],
    ["a pattern with a backslash", { domain: { "/\\.fr$/": { [max]: 1 } } }, `domain "/\\.fr$/" { ${max} = 1 }`],
    ["a binding in a group by name", { binding: { b: { binding_group: "g" } } }, "binding b { binding_group = g }"],
    [
      "groups, bindings, domains and hosts",
      {
        binding_group: {
          g: { [max]: 1, binding: { b: { domain: { [d]: { [max]: 2 } } } }, host: { mx: { [max]: 3 } } },
        },
        binding: { c: { [serverMax]: 4, host: { "/mx/": { [scopeMax]: 5 } } } },
      },
      `binding_group g { ${max} = 1 binding b { domain ${d} { ${max} = 2 } } host mx { ${max} = 3 } }
       binding c { ${serverMax} = 4 host "/mx/" { ${scopeMax} = 5 } }`,
    ],
    ["a name with quotes", { binding: { 'a"b\\c': { [max]: 1 } } }, `binding "a\\"b\\\\c" { ${max} = 1 }`],
    ["options in any case", { Max_Outbound_Connections: 5 } as PolicyInput, `${max} = 5`],
  ])("definePolicy says what the text says: %s", (_, input, text) => {
    const policy = definePolicy(input);
    const same = parsePolicy(text);
    expect(String(policy)).toBe(String(same));
    expect(policy.warnings.map(({ rule }) => rule).sort()).toEqual(same.warnings.map(({ rule }) => rule).sort());
    expect(String(parsePolicy(String(policy)))).toBe(String(policy));
  });

  test("definePolicy takes an own __proto__ and the names of Object.prototype as ordinary names", () => {
    const json = `{ "domain": { "__proto__": { "${max}": 4 }, "constructor": { "${max}": 5 } },
                    "binding": { "__proto__": { "${scopeMax}": 6 }, "toString": { "${scopeMax}": 7 } } }`;
    const policy = definePolicy(JSON.parse(json) as PolicyInput);
    expect(limitsOf(policy, { domain: "__proto__" })).toEqual([4]);
    expect(limitsOf(policy, { domain: "constructor" })).toEqual([5]);
    expect(limitsOf(policy, { domain: "valueof" })).toEqual([32]);
    expect(limitsOf(policy, { binding: "__proto__", domain: d }, scopeMax)).toEqual([6]);
    expect(limitsOf(policy, { binding: "toString", domain: d }, scopeMax)).toEqual([7]);
    expect(limitsOf(policy, { binding: "valueOf", domain: d }, scopeMax)).toEqual([]);
    expect(String(parsePolicy(String(policy)))).toBe(String(policy));
    expect(({} as { [max]?: number })[max]).toBeUndefined();
  });

  test("definePolicy does not take an own __proto__ for a scope", () => {
    expect(issuesOf(JSON.parse(`{ "__proto__": { "${max}": 4 } }`))).toMatchObject([{ rule: "unknown-stanza" }]);
    expect(issuesOf(JSON.parse(`{ "domain": { "${d}": { "constructor": 4 } } }`))).toMatchObject([
      { rule: "unknown-option" },
    ]);
  });

  test("definePolicy takes objects without a prototype", () => {
    const input = Object.assign(Object.create(null) as PolicyInput, {
      domain: Object.assign(Object.create(null), { [d]: { [max]: 5 } }),
    });
    expect(limitsOf(definePolicy(input), { domain: d })).toEqual([5]);
  });

  test("definePolicy takes undefined for not set", () => {
    const input = {
      [max]: undefined,
      domain: undefined,
      host: { mx: undefined },
      binding: { b: { [max]: 5, host: undefined } },
    };
    expect(String(definePolicy(input as unknown as PolicyInput))).toBe(String(parsePolicy(`binding b { ${max} = 5 }`)));
  });

  test("definePolicy keeps nothing of its argument", () => {
    const input = { domain: { [d]: { [max]: 5 } } };
    const policy = definePolicy(input);
    input.domain[d][max] = 6;
    expect(limitsOf(policy, { domain: d })).toEqual([5]);
    expect(() => definePolicy(Object.freeze({ binding: Object.freeze({}) }))).not.toThrow();
  });

  test("definePolicy returns a frozen policy that prints itself", () => {
    const policy = definePolicy({ domain: { [d]: { [max]: 5 } } });
    expect(Object.isFrozen(policy)).toBe(true);
    expect(Object.isFrozen(policy.warnings)).toBe(true);
    expect(policy.source).toEqual(expect.any(String));
    expect(String(policy)).toBe(policy.toString());
    expect(String(policy)).toContain(d);
  });
});

describe("definePolicy: mistakes", () => {
  const inGmail = 'binding["mta-1"].domain["gmail.com"]';
  const gmail = (inside: unknown) => ({ binding: { "mta-1": { domain: { "gmail.com": inside } } } });

  test.each<[string, unknown, Issue["rule"], string]>([
    ["an unknown option", { max_outbund_connections: 5 }, "unknown-option", "max_outbund_connections"],
    ["an unknown option deep inside", gmail({ foo: 5 }), "unknown-option", `${inGmail}.foo`],
    ["an unknown stanza", { domian: { [d]: {} } }, "unknown-stanza", "domian"],
    ["NaN", { [max]: Number.NaN }, "bad-value", max],
    ["Infinity", { [max]: Number.POSITIVE_INFINITY }, "bad-value", max],
    ["a fraction", gmail({ [max]: 1.5 }), "bad-value", `${inGmail}.${max}`],
    ["-2", gmail({ [max]: -2 }), "bad-value", `${inGmail}.${max}`],
    ["null for a limit", { [max]: null }, "bad-value", max],
    ["true for a limit", { [max]: true }, "bad-value", max],
    ["a word for a limit", { [max]: "five" }, "bad-value", max],
    ["a list for a limit", { [max]: [5] }, "bad-value", max],
    ["null for the stanzas of a kind", { domain: null }, "bad-value", "domain"],
    ["a number for the stanzas of a kind", { domain: 5 }, "bad-value", "domain"],
    ["a list for the stanzas of a kind", { binding: [{}] }, "bad-value", "binding"],
    ["null for a stanza", gmail(null), "bad-value", inGmail],
    ["a number for a stanza", gmail(5), "bad-value", inGmail],
    ["a list for a stanza", gmail([]), "bad-value", inGmail],
    ["a Map for a stanza", gmail(new Map([[max, 5]])), "bad-value", inGmail],
    ["a Map for the stanzas of a kind", { domain: new Map([[d, {}]]) }, "bad-value", "domain"],
    ["typographic quotes in a name", { binding: { "“b”": {} } }, "bad-name", 'binding["“b”"]'],
    ["an option in a wrong place", gmail({ [reserve]: 5 }), "wrong-scope", `${inGmail}.${reserve}`],
    ["a stanza in a wrong place", gmail({ host: { mx: {} } }), "wrong-scope", `${inGmail}.host["mx"]`],
    ["a bad binding name", { binding: { "a b": {} } }, "bad-name", 'binding["a b"]'],
    ["a bad domain name", { domain: { "a..b": {} } }, "bad-name", 'domain["a..b"]'],
    ["a bad pattern", { domain: { "/a(?=b)/": {} } }, "bad-pattern", 'domain["/a(?=b)/"]'],
    ["a name that needs escapes in its path", { domain: { 'a".\n': {} } }, "bad-name", 'domain["a\\".\\n"]'],
  ])("definePolicy refuses %s, with its path and no line", (_, input, rule, path) => {
    const issues = issuesOf(input);
    expect(issues).toMatchObject([{ rule, line: 0, column: 0 }]);
    expect(issues[0]!.excerpt.trim()).toBe(path);
  });

  test.each<[string, unknown]>([
    ["undefined", undefined],
    ["null", null],
    ["a number", 5],
    ["a string", `${max} = 5`],
    ["a list", []],
    ["a function", () => ({})],
    ["a Map", new Map([[max, 5]])],
    ["an object with a prototype", Object.create({ [max]: 5 })],
  ])("definePolicy refuses %s for a policy", (_, input) => {
    const message = "a policy must be a plain object";
    expect(issuesOf(input)).toMatchObject([{ rule: "bad-value", line: 0, column: 0, message }]);
  });

  test("definePolicy takes an object of another realm, and one without a prototype", () => {
    const other: unknown = runInNewContext(`({ domain: { "${d}": { ${max}: 5 } } })`);
    const bare: unknown = Object.assign(Object.create(null), { [max]: 5 });
    for (const input of [other, bare]) {
      expect(limitsOf(definePolicy(input as PolicyInput), { domain: d })).toEqual([5]);
    }
  });

  test("definePolicy asks: did you mean", () => {
    expect(issuesOf({ max_outbund_connections: 5 })[0]!.help).toContain(`did you mean \`${max}\`?`);
    expect(issuesOf({ domian: { [d]: {} } })[0]!.help).toContain("did you mean `domain`?");
  });

  test("definePolicy says where an option is valid", () => {
    expect(issuesOf(gmail({ [serverMax]: 5 }))[0]!.help).toMatch(/global.*binding_group.*binding/);
  });

  test("definePolicy refuses a group that is no name, and says so", () => {
    for (const group of [5, null, ["g"], "", "a b", "a:b"]) {
      const issues = issuesOf({ binding: { b: { binding_group: group } } });
      expect(issues).toMatchObject([{ line: 0, column: 0 }]);
      expect(issues[0]!.excerpt.trim()).toBe('binding["b"].binding_group');
      expect(issues[0]!.message).toContain("name");
    }
  });

  test("definePolicy refuses a binding in two groups and names both places", () => {
    const input = { binding: { b: { binding_group: "g" } }, binding_group: { h: { binding: { b: {} } } } };
    const issues = issuesOf(input);
    expect(issues).toMatchObject([{ rule: "duplicate", line: 0, column: 0 }]);
    const { message, help, excerpt } = issues[0]!;
    const said = `${message} ${help} ${excerpt}`;
    expect(said).toContain('binding["b"].binding_group');
    expect(said).toContain('binding_group["h"].binding["b"]');
  });

  test("definePolicy warns of a name written in two forms, and the later one wins", () => {
    const policy = definePolicy({ domain: { [d]: { [max]: 5 }, "D.Example.": { [max]: 7 } } });
    expect(limitsOf(policy, { domain: d })).toEqual([7]);
    expect(policy.warnings).toMatchObject([{ rule: "duplicate", line: 0, column: 0 }]);
    const { message, excerpt } = policy.warnings[0]!;
    expect(`${message} ${excerpt}`).toContain(`domain["${d}"]`);
    expect(`${message} ${excerpt}`).toContain('domain["D.Example."]');
  });

  test("definePolicy lists all mistakes, at most 50", () => {
    const bad = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [`x${index}`, { [max]: -2 }]));
    expect(issuesOf({ [max]: 1.5, foo: 5, domain: bad(3) })).toHaveLength(5);
    const first = issuesOf({ domain: bad(120) }).map(({ excerpt }) => excerpt.trim());
    expect(first).toEqual(Array.from({ length: 50 }, (_, index) => `domain["x${index}"].${max}`));
  });

  test("definePolicy throws a PolicyError whose message has the path for a position", () => {
    expect(() => definePolicy({ domain: { [d]: { [max]: 1.5 } } })).toThrow(PolicyError);
    expect(() => definePolicy({ domain: { [d]: { [max]: 1.5 } } })).toThrow(`domain["${d}"].${max}`);
    expect(() => definePolicy({ domain: { [d]: { [max]: 1.5 } } })).not.toThrow(":0:0");
  });

  test("definePolicy lets no escape sequence through", () => {
    for (const name of ["\u001b[31m", "\u009b31m", "a\u0007"]) {
      for (const input of [
        { binding: { [name]: {} } },
        { [name]: 5 },
        { [name]: {} },
        { [max]: name },
        { domain: { [`/(${name}/`]: {} } },
      ]) {
        for (const { message, help = "", excerpt } of issuesOf(input))
          expect(message + help + excerpt).not.toMatch(/[^\P{Cc}\n\t]/u);
      }
    }
  });

  test("definePolicy survives an object that is deep or holds itself", () => {
    let deep: unknown = {};
    for (let level = 0; level < 100_000; level++) deep = { domain: { [d]: deep } };
    expect(issuesOf(deep).length).toBeGreaterThan(0);
    const self: Record<string, unknown> = {};
    self["binding"] = { b: self };
    expect(issuesOf(self).length).toBeGreaterThan(0);
  });
});
