// outbound-limiter diff: what changes for stanzas and for targets, and that nothing changes unsaid.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { limitChanges, stanzaChanges } from "../../src/cli/changes.js";
import { createLimiter, definePolicy, parsePolicy } from "../../src/index.js";
import { policyArbitrary, targetArbitrary } from "../semantics/drawing.js";
import { builtCommand } from "./built.js";

const command = builtCommand();
const MAX = "max_outbound_connections";
const SCOPE_MAX = "scope_max_outbound_connections";
const SERVER_MAX = "server_max_outbound_connections";

async function diff(old: string, now: string, ...args: string[]) {
  command.write("old.conf", old);
  command.write("new.conf", now);
  const { status, stdout, stderr } = await command.run(["diff", "old.conf", "new.conf", ...args]);
  expect(stderr).toBe("");
  return { status, stdout };
}

async function diffOfTargets(old: string, now: string, targets: string, ...args: string[]) {
  command.write("targets.txt", targets);
  return diff(old, now, "--targets", "targets.txt", ...args);
}

describe("outbound-limiter diff", () => {
  it("says old → new, with both places", async () => {
    const { status, stdout } = await diff(
      `${MAX} = 20\ndomain "gmail.com" {\n  ${MAX} = 5\n}\nbinding a { ${SERVER_MAX} = 9 }\n`,
      `${MAX} = 20\n\nhost mx { ${MAX} = 3 }\ndomain gmail.com {\n  ${SCOPE_MAX} = -1\n  ${MAX} = 50\n}\n`,
    );
    expect(status).toBe(1);
    expect(stdout).toBe(`binding "a"
  ${SERVER_MAX}: 9 → not set
    old.conf:5:13
domain "gmail.com"
  ${SCOPE_MAX}: not set → -1
    new.conf:5:3
  ${MAX}: 5 → 50
    old.conf:3:3 → new.conf:6:3
host "mx"
  ${MAX}: not set → 3
    new.conf:3:11
`);
  });

  it("says which binding changes its group, and which pattern is asked first", async () => {
    const patterns = [`domain "/a/" { ${MAX} = 1 }`, `domain "/b/" { ${MAX} = 2 }`];
    const { status, stdout } = await diff(
      `${patterns.join("\n")}\nbinding b { ${MAX} = 3 }`,
      `${patterns.toReversed().join("\n")}\nbinding b { ${MAX} = 3 binding_group = g }`,
    );
    expect(status).toBe(1);
    expect(stdout).toBe(`global
  order of patterns: /a/ first → /b/ first
binding "b"
  binding_group: default → g
`);
  });

  it.each([
    ["the same text", `${MAX} = 20`, `${MAX} = 20`],
    [
      "stanzas in another order, in pieces, with comments",
      `domain a { ${MAX} = 1 ${SCOPE_MAX} = 2 } domain b { ${MAX} = 3 }`,
      `domain B { ${MAX} = 3 } # b\ndomain a { ${SCOPE_MAX} = 2 } domain a. { ${MAX} = "1" }`,
    ],
    ["a stanza that says nothing", `${MAX} = 20`, `${MAX} = 20 domain d { } domain "/x/" { } binding b { }`],
    [
      "patterns in another order that set nothing",
      `domain "/a/" { } domain "/b/" { ${MAX} = 2 }`,
      `domain "/b/" { ${MAX} = 2 } domain "/a/" { }`,
    ],
  ])("nothing changes: %s", async (_, old, now) => {
    expect(await diff(old, now)).toEqual({ status: 0, stdout: "No stanza gets another limit.\n" });
  });

  it("--json: the changes as data", async () => {
    expect(await diff(`${MAX} = 20`, `${MAX} = 20`, "--json")).toEqual({ status: 0, stdout: "[]\n" });
    const { status, stdout } = await diff(`${MAX} = 20`, `domain d { ${MAX} = -1 }\n${MAX} = 30`, "--json");
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toEqual([
      {
        scope: "global",
        what: MAX,
        old: { value: 20, setAt: { source: "old.conf", line: 1, column: 1 } },
        new: { value: 30, setAt: { source: "new.conf", line: 2, column: 1 } },
      },
      {
        scope: 'domain "d"',
        what: MAX,
        old: null,
        new: { value: -1, setAt: { source: "new.conf", line: 1, column: 12 } },
      },
    ]);
  });

  it("reads the standard input for one of its files, and pipes", async () => {
    command.write("old.conf", `${MAX} = 20`);
    const ran = await command.run(["diff", "old.conf", "-"], `${MAX} = 30`);
    expect(ran).toMatchObject({ status: 1, stdout: expect.stringContaining("old.conf:1:1 → <stdin>:1:1") });
    const pipes = await command.shell(`outbound-limiter diff <(cat old.conf) <(echo '${MAX} = 30')`);
    expect(pipes).toMatchObject({ status: 1, stdout: expect.stringContaining("20 → 30"), stderr: "" });
    const twice = await command.run(["diff", "-", "old.conf", "--targets", "-"]);
    expect(twice).toMatchObject({ status: 2, stdout: "", stderr: expect.stringContaining("can be read once only") });
  });

  it.each([
    [["diff", "gone.conf", "good.conf"], /^outbound-limiter diff: gone\.conf: cannot read the policy: no such file/],
    [["diff", "good.conf", "bad.conf"], /^bad\.conf:1:1: unknown option/],
    [
      ["diff", "good.conf", "good.conf", "--targets", "gone.txt"],
      /^outbound-limiter diff: gone\.txt: cannot read it: no such file/,
    ],
  ])("%j is trouble", async (args, message) => {
    command.write("good.conf", `${MAX} = 20`);
    command.write("bad.conf", `${MAX}s = 20`);
    const { status, stdout, stderr } = await command.run(args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toMatch(message);
  });

  it("compares policies of ten thousand stanzas", async () => {
    const policy = (limit: number) =>
      Array.from({ length: 10_000 }, (_, index) => `domain d${index}.example { ${MAX} = ${index === 77 ? limit : 5} }`);
    const { status, stdout } = await diff(policy(5).join("\n"), policy(6).join("\n"));
    expect(status).toBe(1);
    expect(stdout).toMatch(/^domain "d77\.example"\n {2}max_outbound_connections: 5 → 6\n/);
    expect(stdout.split("\n")).toHaveLength(4);
  });
});

describe("outbound-limiter diff --targets", () => {
  const OLD = `${MAX} = 20\nbinding_group g { ${MAX} = 5 binding b { } }\n`;
  const NEW = `${MAX} = 20\nbinding_group g { ${MAX} = 6 binding b { } }\nhost mx { ${SCOPE_MAX} = 2 }\n`;

  it("says what changes for each target, and where both come from", async () => {
    const { status, stdout } = await diffOfTargets(
      OLD,
      NEW,
      "gmail.com\ngmail.com b\n\n# a comment\ngmail.com - - mx\n",
    );
    expect(status).toBe(1);
    expect(stdout).toBe(`gmail.com via b
  connections from binding b to gmail.com: 5 → 6
    ${MAX}, old.conf:2:19 in binding_group "g" → ${MAX}, new.conf:2:19 in binding_group "g"
gmail.com via default, host mx
  connections to host mx: not limited → 2
    not limited → ${SCOPE_MAX}, new.conf:3:11 in host "mx"
2 of 3 targets get another limit.
`);
  });

  it("reads targets as JSON, too, and writes them back with --json", async () => {
    const target = { domain: "gmail.com", binding: "b", bindingGroup: "g" };
    const { status, stdout } = await diffOfTargets(OLD, NEW, `${JSON.stringify(target)}\ngmail.com\n`, "--json");
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toEqual([
      {
        target,
        changes: [
          {
            counts: "connections from binding b to gmail.com",
            reach: "process",
            old: {
              limit: 5,
              option: MAX,
              setAt: { scope: 'binding_group "g"', source: "old.conf", line: 2, column: 19 },
            },
            new: {
              limit: 6,
              option: MAX,
              setAt: { scope: 'binding_group "g"', source: "new.conf", line: 2, column: 19 },
            },
          },
        ],
      },
    ]);
  });

  it("--json: an empty list where nothing changes", async () => {
    expect(await diffOfTargets(OLD, NEW, "gmail.com\n", "--json")).toEqual({ status: 0, stdout: "[]\n" });
  });

  it("a default is a limit, too", async () => {
    const { stdout } = await diffOfTargets("", `${MAX} = 40`, "gmail.com\n");
    expect(stdout).toContain(`32 → 40\n    ${MAX}, built-in default → ${MAX}, new.conf:1:1 in global\n`);
  });

  it.each([
    ["nothing that concerns them", OLD, NEW, "gmail.com\ngmail.com other\n"],
    [
      "the same number from another stanza",
      `${MAX} = 20`,
      `${MAX} = 9 domain gmail.com { ${MAX} = 20 }`,
      "gmail.com\n",
    ],
    ["the same connections limited by another option", `${SERVER_MAX} = 9`, `${SCOPE_MAX} = 9`, "gmail.com\n"],
    ["no targets", OLD, NEW, "# none\n"],
  ])("nothing changes: %s", async (_, old, now, targets) => {
    const { status, stdout } = await diffOfTargets(old, now, targets);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^None of \d targets gets another limit\.\n$/);
  });

  it.each([
    ["a b c d e", "more than four words; a line is `domain [binding [group [host]]]`"],
    ["- b", "a target needs a domain"],
    ["a..b", 'Target domain "a..b" has an empty label'],
    ["gmail.com b other", 'Target bindingGroup "other" contradicts the policy'],
    ['{"domain": 3}', "domain is not a string"],
    ['{"binding": "b"}', "a target needs a domain"],
    ['{"domain": "d", "group": "g"}', 'unknown field "group"; a target has domain, binding, bindingGroup, host'],
    ['{"domain": "d"', "not JSON: "],
  ])("the line %j is no target", async (line, message) => {
    command.write("targets.txt", `gmail.com\n${line}\n`);
    command.write("old.conf", OLD);
    const { status, stdout, stderr } = await command.run(["diff", "old.conf", "old.conf", "--targets", "targets.txt"]);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr.startsWith(`outbound-limiter diff: targets.txt:2: ${message}`), stderr).toBe(true);
  });

  it("reads them from the standard input", async () => {
    command.write("old.conf", OLD);
    command.write("new.conf", NEW);
    const ran = await command.run(["diff", "old.conf", "new.conf", "--targets", "-"], "gmail.com b\n");
    expect(ran).toMatchObject({ status: 1, stdout: expect.stringContaining("5 → 6") });
  });
});

describe("stanzaChanges", () => {
  it("finds something whenever a target gets another limit", () => {
    let same = 0;
    fc.assert(
      fc.property(
        policyArbitrary(),
        policyArbitrary(),
        fc.boolean(),
        fc.array(targetArbitrary({ groups: false }), { minLength: 5 }),
        (one, other, isSame, targets) => {
          const old = definePolicy(one);
          const now = isSame ? parsePolicy(String(old)) : definePolicy(other);
          if (stanzaChanges(old, now).length > 0) {
            expect(isSame, String(old)).toBe(false);
            return;
          }
          same++;
          const [before, after] = [createLimiter(old), createLimiter(now)];
          for (const target of targets) {
            expect(limitChanges(before.explain(target).limits, after.explain(target).limits), String(now)).toEqual([]);
          }
        },
      ),
      { numRuns: 100 },
    );
    expect(same).toBeGreaterThan(0);
  }, 60_000);

  it("a single changed number of a random policy is found at its place", () => {
    fc.assert(
      fc.property(policyArbitrary(fc.integer({ min: 1, max: 9 })), fc.nat(), (input, pick) => {
        const text = String(definePolicy(input));
        const places = [...text.matchAll(/= (\d)$/gm)];
        const place = places[pick % Math.max(1, places.length)];
        if (place === undefined) return;
        const changed = `${text.slice(0, place.index)}= 77${text.slice(place.index + 3)}`;
        const line = text.slice(0, place.index).split("\n").length;
        expect(stanzaChanges(parsePolicy(text), parsePolicy(changed))).toMatchObject([
          { old: { value: Number(place[1]), setAt: { line } }, new: { value: 77, setAt: { line } } },
        ]);
      }),
      { numRuns: 100 },
    );
  }, 60_000);
});
