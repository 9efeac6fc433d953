// What deserves a look in a policy that can be used: each kind hit and not hit, and that nothing sound is complained about.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  createLimiter,
  definePolicy,
  type Lease,
  type LocalLimiter,
  parsePolicy,
  type Target,
} from "../../src/index.js";
import { type Advice, lint } from "../../src/policy/lint.js";
import { dataOf } from "../../src/policy/policy.js";
import { policyArbitrary, targetArbitrary } from "../semantics/drawing.js";
import { expectLinear } from "./growth.js";
import { marked, max, scopeMax, serverMax, textAt, underlined } from "./reading.js";

const reserve = "server_reserve_outbound_connections";
const clusterMax = "cluster_max_outbound_connections";
const clusterScopeMax = "cluster_scope_max_outbound_connections";
const clusterServerMax = "cluster_server_max_outbound_connections";

function notesOf(text: string): readonly Advice[] {
  return lint(dataOf(parsePolicy(text, { source: "limits.conf", unknown: "ignore" })));
}

/** The one note of a text, which must underline the piece between « and ». */
function noteOf(written: string): Advice {
  const { text, piece, line, column } = marked(written);
  const notes = notesOf(text);
  expect(notes.map(({ message }) => message)).toHaveLength(1);
  const [note] = notes as [Advice];
  expect([note.spot.line, note.spot.column]).toEqual([line, column]);
  expect(underlined(note.spot.excerpt())).toBe(piece);
  return note;
}

describe("lint: a limit that can never be reached", () => {
  test("names the tighter one, with its place, and says what to do", () => {
    const note = noteOf(`domain d.example {\n  «${max}» = 50\n  ${scopeMax} = 10\n}`);
    expect(note.rule).toBe("unreachable");
    expect(note.message).toBe(
      `\`${max} = 50\` in domain "d.example" can never be reached: \`${scopeMax}\` in domain "d.example" at limits.conf:3:3 is 10`,
    );
    expect(note.help).toBe("raise that one, or lower this one");
  });

  test.each([
    ["max above the server_max of all", `${serverMax} = 10 «${max}» = 11`],
    ["max of a domain above the server_max of all", `${serverMax} = 10 domain d { «${max}» = 11 }`],
    ["max above the scope_max of all", `${scopeMax} = 10 binding b { «${max}» = 11 }`],
    ["max of a pattern above its scope_max", `domain "/^d/" { ${scopeMax} = 10 «${max}» = 11 }`],
    ["the second pattern, too", `domain "/^a/" { ${max} = 4 } domain "/^d/" { ${scopeMax} = 10 «${max}» = 11 }`],
    [
      "the same beside a literal that sets both",
      `domain d1 { ${scopeMax} = 5 ${max} = 4 } domain "/^d/" { ${scopeMax} = 10 «${max}» = 11 }`,
    ],
    ["max of a binding above its server_max", `binding b { ${serverMax} = 10 «${max}» = 11 }`],
    ["max of a binding's domain above that", `binding b { ${serverMax} = 10 domain d { «${max}» = 11 } }`],
    [
      "max of a binding above the group's server_max",
      `binding_group g { ${serverMax} = 9 binding b { «${max}» = 11 } }`,
    ],
    ["max of a group above its server_max", `binding_group g { ${serverMax} = 10 «${max}» = 11 binding b { } }`],
    ["max of a group above its scope_max", `binding_group g { ${scopeMax} = 10 «${max}» = 11 }`],
    [
      "max of a binding's domain above the scope_max of the domain",
      `domain d { ${scopeMax} = 9 } binding b { domain d { «${max}» = 11 } }`,
    ],
    [
      "max of a binding's domain above the scope_max of a pattern that matches it",
      String.raw`domain "/^(wanadoo|orange)\.fr$/" { ${scopeMax} = 3 } binding b { domain orange.fr { «${max}» = 10 } }`,
    ],
    [
      "max of a binding's pattern above the scope_max of the same pattern",
      `domain "/^d/" { ${scopeMax} = 3 } binding b { domain "/^d/" { «${max}» = 10 } }`,
    ],
    [
      "max of a binding above the scope_max of its group, joined as in Momentum 3",
      `binding_group g { ${scopeMax} = 3 } binding b { binding_group = g «${max}» = 10 }`,
    ],
    [
      "scope_max of a group's domain above that of the group",
      `binding_group g { ${scopeMax} = 3 domain d { «${scopeMax}» = 4 } }`,
    ],
    ["scope_max of a binding above its server_max", `binding b { ${serverMax} = 3 «${scopeMax}» = 4 }`],
    ["server_max of a binding above its scope_max", `binding b { ${scopeMax} = 3 «${serverMax}» = 4 }`],
    ["server_max of all above the scope_max of all", `${scopeMax} = 3 «${serverMax}» = 4`],
    [
      "scope_max of a binding's domain, which counts what max counts",
      `binding b { domain d { ${max} = 3 «${scopeMax}» = 4 } }`,
    ],
    ["max of a host above its scope_max", `host h { ${scopeMax} = 3 «${max}» = 4 }`],
    [
      "max of a binding's host above the server_max of the binding",
      `binding b { ${serverMax} = 3 host h { «${max}» = 4 } }`,
    ],
    [
      "server_max of a binding above that of all with the reserve",
      `${serverMax} = 10 ${reserve} = 5 binding b { «${serverMax}» = 16 }`,
    ],
    ["cluster_max above cluster_server_max", `${clusterServerMax} = 10 domain d { «${clusterMax}» = 11 }`],
    ["cluster_max above cluster_scope_max", `domain d { ${clusterScopeMax} = 10 «${clusterMax}» = 11 }`],
  ])("hit: %s", (_, text) => {
    expect(noteOf(text).rule).toBe("unreachable");
    expect(noteOf(text).message).toContain("can never be reached");
  });

  test.each([
    ["equal limits", `domain d { ${max} = 10 ${scopeMax} = 10 }`],
    ["scope_max above max: more bindings than one", `domain d { ${max} = 10 ${scopeMax} = 50 }`],
    ["unlimited below a limit", `${serverMax} = 10 domain d { ${max} = -1 }`],
    ["the limit is another binding's", `binding a { ${serverMax} = 10 } binding b { ${max} = 11 }`],
    ["another domain's", `domain d { ${scopeMax} = 10 } binding b { domain e { ${max} = 11 } }`],
    [
      "a domain's only, and the other one of all its domains",
      `binding b { ${max} = 20 domain d { ${scopeMax} = 10 } }`,
    ],
    [
      "a binding with more than the group's server_max",
      `binding_group g { ${serverMax} = 10 ${max} = 11 binding b { ${serverMax} = 20 } }`,
    ],
    ["the group's server_max is for each binding", `binding_group g { ${serverMax} = 10 ${scopeMax} = 11 }`],
    ["the reserve lets more through", `${serverMax} = 10 ${reserve} = 5 binding b { ${scopeMax} = 15 }`],
    ["the reserve by default is 200", `${serverMax} = 10 binding b { ${serverMax} = 210 }`],
    [
      "a literal name has another scope_max",
      `domain d { ${scopeMax} = 90 } domain "/^d/" { ${scopeMax} = 10 } binding b { domain d { ${max} = 11 } }`,
    ],
    [
      "a name of the pattern has another scope_max",
      `domain dd { ${scopeMax} = 90 } domain "/^d/" { ${scopeMax} = 10 ${max} = 11 }`,
    ],
    [
      "a pattern asked before has another scope_max",
      `domain "/dd/" { ${scopeMax} = 90 } domain "/^d/" { ${scopeMax} = 10 ${max} = 11 }`,
    ],
    [
      "another container's pattern asked before sets both",
      `domain "/dd/" { ${scopeMax} = 90 ${max} = 80 } domain "/^d/" { ${scopeMax} = 3 } binding b { domain "/^d/" { ${max} = 10 } }`,
    ],
    [
      "limits of one process and of the cluster",
      `${serverMax} = 10 ${clusterServerMax} = 50 domain d { ${clusterMax} = 11 ${max} = 9 }`,
    ],
    ["host and domain count different connections", `domain d { ${scopeMax} = 3 } host h { ${max} = 4 }`],
    ["two names of a pattern", `binding b { domain "/^d/" { ${max} = 3 ${scopeMax} = 4 } }`],
  ])("no hit: %s", (_, text) => {
    expect(notesOf(text)).toEqual([]);
  });

  test("no hit: the max of the same stanza is not used, because the group has another one", () => {
    const notes = notesOf(`
      binding_group g { binding b { domain d { ${max} = 6 } } }
      binding b { domain d { ${max} = 4 ${scopeMax} = 7 } }
    `);
    expect(notes.map(({ message }) => message)).toEqual([expect.stringMatching(/^`max_\w+` .* is never used/)]);
  });

  test("hit once for one slip: the tightest limit is named", () => {
    const note = noteOf(`${serverMax} = 30 binding b { ${serverMax} = 20 domain d { «${max}» = 99 } }`);
    expect(note.message).toContain(`\`${serverMax}\` in binding "b" at limits.conf:1:`);
    expect(note.message).toContain("is 20");
  });

  test("an object has no lines: the message names the scopes alone", () => {
    const policy = definePolicy({ domain: { d: { [max]: 50, [scopeMax]: 10 } } });
    expect(lint(dataOf(policy)).map(({ message }) => message)).toEqual([
      `\`${max} = 50\` in domain "d" can never be reached: \`${scopeMax}\` in domain "d" is 10`,
    ]);
  });

  test("with the reserve, both numbers are named", () => {
    const note = noteOf(`${serverMax} = 10 ${reserve} = 5 binding b { «${scopeMax}» = 16 }`);
    expect(note.message).toMatch(/is 10 and the reserve 5$/);
  });
});

describe("lint: a stanza that another one shadows", () => {
  test("names the one that comes first", () => {
    const note = noteOf(`domain gmail.com { ${max} = 5 }\ndomain "/^gmail\\.com$/" { «${max}» = 6 }`);
    expect(note.rule).toBe("unreachable");
    expect(note.message).toBe(
      `\`${max}\` in domain "/^gmail\\.com$/" is never used: \`${max}\` in domain "gmail.com" at limits.conf:1:20 comes first wherever it could hold`,
    );
    expect(note.help).toBe("take out the one that is not meant");
  });

  test.each([
    [
      "all names of a pattern have stanzas",
      String.raw`domain a.fr { ${max} = 1 } domain b.fr { ${max} = 1 } domain "/^(a|b)\.fr$/" { «${max}» = 6 }`,
    ],
    [
      "a pattern that matches everything comes first",
      `domain "/.*/" { ${max} = 5 } domain "/^gm[ai]+l/" { «${max}» = 6 }`,
    ],
    [
      "a wider ending comes first",
      String.raw`domain "/\.fr$/" { ${max} = 5 } domain "/^mail\.orange\.fr$/" { «${max}» = 6 }`,
    ],
    ["a wider beginning comes first", `domain "/^mail/" { ${max} = 5 } domain "/^mail[.]orange/" { «${max}» = 6 }`],
    [
      "a part of the text comes first",
      String.raw`domain "/yahoo/" { ${max} = 5 } domain "/yahoo\.(com|fr)$/" { «${max}» = 6 }`,
    ],
    [
      "the same names written otherwise",
      String.raw`domain "/^(?:a|b)[.]fr$/" { ${max} = 5 } domain "/^[b]\.fr$|^a\.fr$/" { «${max}» = 6 }`,
    ],
    ["scope_max, too", `domain "/.*/" { ${scopeMax} = 5 } domain "/^d/" { «${scopeMax}» = 6 }`],
    ["host stanzas, too", `host mx.example { ${max} = 5 } host "/^mx[.]example$/" { «${max}» = 6 }`],
    ["in a binding, too", `binding b { domain mx.example { ${max} = 5 } domain "/^mx[.]example$/" { «${max}» = 6 } }`],
    [
      "a binding outside of its group, after the one inside",
      `binding_group g { binding b { ${max} = 5 } } binding b { «${max}» = 6 }`,
    ],
    ["its server_max", `binding_group g { binding b { ${serverMax} = 5 } } binding b { «${serverMax}» = 6 }`],
    ["its domain", `binding_group g { binding b { domain d { ${max} = 5 } } } binding b { domain d { «${max}» = 6 } }`],
    ["its host", `binding_group g { binding b { host h { ${max} = 5 } } } binding b { host h { «${max}» = 6 } }`],
    [
      "its pattern",
      `binding_group g { binding b { domain "/^d/" { ${max} = 5 } } } binding b { domain "/^d/" { «${max}» = 6 } }`,
    ],
    [
      "a domain that a pattern inside the group matches",
      `binding_group g { binding b { domain "/^d/" { ${max} = 5 } } } binding b { domain d { «${max}» = 6 } }`,
    ],
  ])("hit: %s", (_, text) => {
    expect(noteOf(text).message).toContain("is never used");
  });

  test.each([
    ["a name is left to the pattern", String.raw`domain a.fr { ${max} = 1 } domain "/^(a|b)\.fr$/" { ${max} = 6 }`],
    ["another option", `domain a.fr { ${scopeMax} = 9 } domain "/^a[.]fr$/" { ${max} = 6 }`],
    [
      "the narrow one comes first",
      String.raw`domain "/^mail\.orange\.fr$/" { ${max} = 6 } domain "/\.fr$/" { ${max} = 5 }`,
    ],
    ["they only overlap", `domain "/^mail/" { ${max} = 5 } domain "/fr$/" { ${max} = 6 }`],
    [
      "a beginning does not cover what has no beginning",
      `domain "/^mail/" { ${max} = 5 } domain "/mailbox/" { ${max} = 6 }`,
    ],
    ["nor an ending what goes on", `domain "/fr$/" { ${max} = 5 } domain "/^orange-fr/" { ${max} = 6 }`],
    [
      "what is not plain to see may match less than it seems",
      `domain "/^m.+x/" { ${max} = 5 } domain "/^mail-x$|^mx/" { ${max} = 6 }`,
    ],
    ["a literal name is not asked after a pattern", `domain "/.*/" { ${max} = 5 } domain d { ${max} = 6 }`],
    ["another container", `domain "/.*/" { ${max} = 5 } binding b { domain "/^d/" { ${max} = 6 } }`],
    ["scope_max of both holds", `binding_group g { binding b { ${scopeMax} = 5 } } binding b { ${scopeMax} = 5 }`],
    ["a binding of another name", `binding_group g { binding b { ${max} = 5 } } binding c { ${max} = 6 }`],
    ["stanzas that set nothing", `domain gmail.com { } domain "/^gmail[.]com$/" { } domain "/^gmail[.]com$|^x$/" { }`],
  ])("no hit: %s", (_, text) => {
    expect(notesOf(text)).toEqual([]);
  });
});

describe("lint: a pattern that matches more than it seems to mean", () => {
  test("names what it matches, too, and what to write", () => {
    const note = noteOf(`domain «"/gmail.com/"» { ${max} = 5 }`);
    expect(note.rule).toBe("bad-pattern");
    expect(note.message).toBe(
      "`/gmail.com/` has no `^` and no `$`: it matches `notgmail.com` and `gmail.com.example.net`, too",
    );
    expect(note.help).toBe(
      String.raw`write ${"`"}/^gmail\.com$/${"`"} for that name alone, ${"`"}/(?:^|[.])gmail\.com$/${"`"} for all names below it as well`,
    );
  });

  test.each([
    [String.raw`gmail\.com`, ["notgmail.com", "gmail.com.example.net"]],
    ["gmail[.]com", ["notgmail.com", "gmail.com.example.net"]],
    [String.raw`google\.(com|es)`, ["notgoogle.com", "google.com.example.net"]],
    ["aol.com|yahoo.com", ["notaol.com", "aol.com.example.net"]],
    [String.raw`.*gmail\.com`, ["notgmail.com", "gmail.com.example.net"]],
    [String.raw`\.fr`, ["mail.fr.example.net"]],
    ["^mx.gmail.com$", ["mx-gmail.com"]],
    [String.raw`mx.gmail\.com$`, ["xmx-gmail.com"]],
    ["^mail.gmail", ["mail-gmail.example"]],
  ])("hit: /%s/", (pattern, strangers) => {
    for (const stanza of ["domain", "host"]) {
      const { message, help } = noteOf(`${stanza} «"/${pattern}/"» { ${max} = 5 }`);
      for (const stranger of strangers) {
        expect(message).toContain(`\`${stranger}\``);
        expect(matches(pattern, stranger)).toBe(true);
      }
      // What the help says to write is no longer loose, and still matches what was meant.
      for (const [, better = ""] of help.matchAll(/`\/(.*?)\/`/g)) {
        expect(notesOf(`domain "/${better}/" { ${max} = 5 }`)).toEqual([]);
        for (const stranger of strangers) expect(matches(better, stranger)).toBe(false);
      }
    }
  });

  test.each([
    String.raw`^gmail\.com$`,
    String.raw`gmail\.com$`,
    String.raw`^gmail\.com`,
    String.raw`gmail\.com.*`,
    String.raw`.*gmail\.com.*`,
    "(?:^|[.])example[.](?:com|co[.]uk)$",
    String.raw`yahoo\.co(m|\.uk)$`,
    "^(aol|yahoo).com$",
    "yahoo.com$",
    "example",
    "com$",
    ".",
    ".*",
    "^mx[0-9]+",
    String.raw`mail.*\.google\.com`,
    String.raw`gmail\.com\.*`,
    String.raw`gmail\.com\$`,
    String.raw`^mail\.`,
    String.raw`mail\.`,
    String.raw`a\.b`,
  ])("no hit: /%s/", (pattern) => {
    expect(notesOf(`domain "/${pattern}/" { ${max} = 5 }`)).toEqual([]);
  });

  test("no hit: a pattern that limits nothing", () => {
    expect(notesOf('domain "/gmail.com/" { }')).toEqual([]);
  });

  function matches(pattern: string, domain: string): boolean {
    const limiter = createLimiter(parsePolicy(`domain "/${pattern}/" { ${scopeMax} = 7 }`));
    return limiter.explain({ domain }).limits.some(({ option }) => option === scopeMax);
  }
});

describe("lint: a name that is none", () => {
  test.each([
    ["domain", "*.gmail.com", "for all names below it, write a pattern: `/\\.gmail\\.com$/`"],
    ["host", "mx*.example.com", "for all names below it, write a pattern: `/\\.example\\.com$/`"],
    ["domain", "you@example.com", 'write `domain "example.com"`'],
    ["domain", "*", 'write `domain "example.com"`'],
  ])("%s %j", (stanza, name, help) => {
    const note = noteOf(`${stanza} "${name}" { «${max}» = 3 }`);
    expect(note.rule).toBe("bad-name");
    expect(note.help).toBe(help);
  });

  test("no hit: one that limits nothing, or is a binding's", () => {
    expect(parsePolicy(`domain "*.gmail.com" { }\nbinding "a*b" { ${max} = 3 }`).warnings).toEqual([]);
  });
});

describe("lint: 0", () => {
  test.each([
    ["global", `«${max}» = 0`],
    ['domain "d"', `domain d { «${scopeMax}» = 0 }`],
    ['binding "b"', `binding b { «${serverMax}» = 0 }`],
  ])("hit: in %s", (scope, text) => {
    const note = noteOf(text);
    expect(note.rule).toBe("bad-value");
    expect(note.message).toMatch(/^`\w+ = 0` in .* lets no connection through$/);
    expect(note.message).toContain(` in ${scope} `);
    expect(note.help).toBe("if that is not what you want: -1 is unlimited");
  });

  test("hit once: what it holds up is not said to be unreachable as well", () => {
    expect(noteOf(`«${serverMax}» = 0 domain d { ${max} = 5 }`).rule).toBe("bad-value");
  });

  test("no hit: a reserve of 0 is no reserve", () => {
    expect(notesOf(`${reserve} = 0`)).toEqual([]);
  });
});

describe("lint: a reserve beside scope_max in a domain", () => {
  test("hit: once, however many domains", () => {
    const note = noteOf(`«${reserve}» = 8\ndomain a { ${scopeMax} = 3 }\ndomain b { ${scopeMax} = 3 }`);
    expect(note.message).toBe(
      `\`${reserve}\` is not 0 beside \`${scopeMax}\` in domain "a" at limits.conf:2:12: fine here, but not in Momentum`,
    );
    expect(note.help).toContain("there it must be 0");
  });

  test.each([
    ["the reserve is 0", `${reserve} = 0 domain a { ${scopeMax} = 3 }`],
    ["the reserve is not written", `domain a { ${scopeMax} = 3 }`],
    ["the domain is a binding's", `${reserve} = 8 binding b { domain a { ${scopeMax} = 3 } }`],
    ["another option", `${reserve} = 8 domain a { ${max} = 3 }`],
  ])("no hit: %s", (_, text) => {
    expect(notesOf(text)).toEqual([]);
  });
});

describe("lint: sound policies", () => {
  const root = join(import.meta.dirname, "../..");

  test("the examples of the manuals have no notes but the one that the manual itself warns of", () => {
    const page = readFileSync(join(root, "test/semantics/manuals.test.ts"), "utf8");
    const examples = [...page.matchAll(/limiterFor\(\s*(?:String\.raw)?`([^`]*)`/g)].map(([, text = ""]) => text);
    const whole = examples.filter((text) => !text.includes("${"));
    expect(whole.length).toBeGreaterThan(30);
    const notes = whole.flatMap(notesOf).map(({ message }) => message);
    expect(notes).toEqual([expect.stringMatching(/^`\/good\[\.\]example\/` has no `\^` and no `\$`/)]);
  });

  test.each(["bench/demo/policy.conf", "test/policy/fixtures/ecelerity.conf"])(
    "%s has one: Momentum wants its reserve at 0",
    (file) => {
      const notes = notesOf(readFileSync(join(root, file), "utf8"));
      expect(notes.map(({ message }) => message)).toEqual([expect.stringContaining("fine here, but not in Momentum")]);
    },
  );
});

describe("lint: what it says is so", () => {
  const runs = Number(process.env["FUZZ_RUNS"] ?? 60);

  /** What it says is never used, and what never reached, by place. */
  function unreachable(text: string): { readonly used: Set<string>; readonly reached: Set<string> } {
    const said = { used: new Set<string>(), reached: new Set<string>() };
    for (const { rule, message, spot } of notesOf(text)) {
      if (rule !== "unreachable") continue;
      said[message.includes("is never used") ? "used" : "reached"].add(textAt(text, spot) + spot.line);
    }
    return said;
  }

  function expectKept(text: string, limiter: LocalLimiter, target: Target, said: ReturnType<typeof unreachable>): void {
    for (const { setAt, inUse, limit, option } of limiter.explain(target).limits) {
      if (setAt === undefined) continue;
      const place = textAt(text, setAt) + setAt.line;
      expect(said.used.has(place), `${place} is used for ${JSON.stringify(target)} in\n${text}`).toBe(false);
      // The reserve lifts these two alike, so that the lower one decides, and the count goes past both.
      const lifted = setAt.scope === "global" && (option === scopeMax || option === serverMax);
      const full = inUse >= limit && !lifted && said.reached.has(place);
      expect(full, `${place} is reached by ${JSON.stringify(target)} in\n${text}`).toBe(false);
    }
  }

  test("whatever is acquired and released, no such limit is used or reached", () => {
    const moves = fc.array(fc.record({ tries: fc.integer({ min: 1, max: 5 }), back: fc.nat(4) }), {
      minLength: 5,
      maxLength: 8,
    });
    const targets = fc.array(targetArbitrary({ groups: false }), { minLength: 4, maxLength: 8 });
    const limits = fc.integer({ min: 1, max: 9 });
    fc.assert(
      fc.property(policyArbitrary(limits), targets, moves, (input, wanted, played) => {
        const text = String(definePolicy(input));
        const said = unreachable(text);
        if (said.used.size + said.reached.size === 0) return;
        const limiter = createLimiter(parsePolicy(text));
        const held: Lease[] = [];
        for (const { tries, back } of played) {
          for (const target of wanted) {
            for (let count = 0; count < tries; count++) {
              const lease = limiter.tryAcquire(target);
              if (lease !== undefined) held.push(lease);
            }
            expectKept(text, limiter, target, said);
          }
          for (const lease of held.splice(0, back)) lease.release();
        }
      }),
      { numRuns: runs },
    );
  }, 120_000);

  test("no name that could be asked about gets a limit from a pattern that is said to be shadowed", () => {
    const names = namesUpTo(5);
    const piece = fc.constantFrom(
      "a",
      "b",
      "[.]",
      "\\.",
      ".",
      "(a|b)",
      "(?:a|)",
      "b?",
      "(b\\.|a)",
      "[a]",
      "a|b",
      ".*",
      "[ab]",
    );
    const pattern = fc
      .tuple(
        fc.constantFrom("", "^", ".*", "^.*"),
        fc.array(piece, { minLength: 1, maxLength: 4 }),
        fc.constantFrom("", "$", ".*"),
      )
      .map(([start, pieces, end]) => `/${start}${pieces.join("")}${end}/`);
    let shadowed = 0;
    fc.assert(
      fc.property(
        fc.array(pattern, { minLength: 2, maxLength: 5 }),
        fc.subarray(["a", "b", "a.a", "a.b"]),
        (patterns, literals) => {
          const stanzas = [...literals, ...new Set(patterns)].map(
            (name, index) => `domain "${name}" { ${max} = ${index + 1} }`,
          );
          const text = stanzas.join("\n");
          const said = unreachable(text);
          shadowed += said.used.size;
          const limiter = createLimiter(parsePolicy(text));
          if (said.used.size > 0) for (const domain of names) expectKept(text, limiter, { domain }, said);
        },
      ),
      { numRuns: runs * 2 },
    );
    expect(shadowed).toBeGreaterThan(0);
  }, 120_000);

  /** All names of letters a and b and dots, up to that length. */
  function namesUpTo(length: number): string[] {
    let last = [""];
    const all: string[] = [];
    for (let size = 1; size <= length; size++) {
      last = last.flatMap((name) => ["a", "b", "."].map((next) => name + next));
      all.push(...last);
    }
    return all.filter((name) => !/^\.|\.\.|\.$/.test(name));
  }
});

describe("lint: large policies", () => {
  test.each<[string, (index: number) => string]>([
    ["names", (index) => `domain d${index}.example { ${max} = 50 ${scopeMax} = 10 }`],
    ["listed names", (index) => String.raw`domain "/^(a|b)\.d${index}\.fr$/" { ${max} = 5 ${scopeMax} = 3 }`],
    ["open patterns", (index) => String.raw`domain "/d${index}\.fr/" { ${max} = 5 ${scopeMax} = 3 }`],
    ["patterns with wildcards", (index) => String.raw`domain "/d.*${index}\.fr/" { ${max} = 5 ${scopeMax} = 3 }`],
    [
      "bindings in groups",
      (index) => `binding b${index} { binding_group = g${index % 9} ${max} = 5 domain d { ${scopeMax} = 9 } }`,
    ],
  ])("sixteen times as many %s take about sixteen times as long", (_, stanza) => {
    expectLinear(1000, 16_000, (count) => {
      const policy = dataOf(parsePolicy(Array.from({ length: count }, (_unused, index) => stanza(index)).join("\n")));
      return () => lint(policy);
    });
  });
});
