// Policy files and their includes, in real folders.

import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { loadPolicy, type ParseOptions, type Policy, PolicyError, parsePolicy } from "../../src/index.js";
import { type Issue, limitsOf, max, scopeMax, serverMax, textAt, underlined } from "./reading.js";

const reserve = "server_reserve_outbound_connections";
const d = "d.example";

let folder = "";
/** What was written, by path in the folder. */
let texts: Record<string, string> = {};

beforeEach(async () => {
  folder = await mkdtemp(join(await realpath(tmpdir()), "policy-"));
  texts = {};
});
afterEach(() => rm(folder, { recursive: true }));

async function write(files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
    texts[name] = text;
  }
}

/** Writes the files and loads the one called root.conf. */
async function load(files: Readonly<Record<string, string>>, options?: Pick<ParseOptions, "unknown">): Promise<Policy> {
  await write(files);
  return loadPolicy(join(folder, "root.conf"), options);
}

async function issuesOf(files: Readonly<Record<string, string>>, root = "root.conf"): Promise<readonly Issue[]> {
  await write(files);
  try {
    await loadPolicy(join(folder, root));
    return [];
  } catch (error) {
    if (error instanceof PolicyError) return error.issues;
    throw error;
  }
}

/** An issue as `file:line rule`, the file relative to the folder. */
const place = ({ source, line, rule }: Issue): string => `${relative(folder, source)}:${line} ${rule}`;

/** That there is one issue, at the include in that line of that file, and that it shows the path written there. */
function expectAtInclude(issues: readonly Issue[], file: string, line: number): void {
  expect(issues.map(place)).toEqual([`${file}:${line} include`]);
  const [issue] = issues as [Issue];
  const meant = underlined(issue.excerpt);
  expect(textAt(texts[file] ?? "", issue).startsWith(meant)).toBe(true);
  expect(meant).toMatch(/^(?:readonly_)?include|^["']?[\w./:-]+["']?$/);
}

describe("loadPolicy: files", () => {
  test("loadPolicy reads a file as parsePolicy reads its text", async () => {
    const text = `${max} = 5\ndomain ${d} { ${max} = 7 }\n`;
    const policy = await load({ "root.conf": text });
    expect(String(policy)).toBe(String(parsePolicy(text)));
    expect(policy.source).toBe(join(folder, "root.conf"));
    expect(policy.warnings).toEqual([]);
    expect(Object.isFrozen(policy)).toBe(true);
  });

  test("loadPolicy takes a path relative to the working folder", async () => {
    await write({ "root.conf": 'include "a.conf"', "a.conf": `${max} = 5` });
    const policy = await loadPolicy(relative(process.cwd(), join(folder, "root.conf")));
    expect(limitsOf(policy, { domain: d })).toEqual([5]);
  });

  test("loadPolicy passes unknown: ignore on, to included files too", async () => {
    const files = { "root.conf": 'Hostname = x\ninclude "a.conf"', "a.conf": `apn { }\n${max} = 5` };
    const policy = await load(files, { unknown: "ignore" });
    expect(limitsOf(policy, { domain: d })).toEqual([5]);
    expect(policy.warnings.map(place)).toEqual(["root.conf:1 unknown-option", "a.conf:1 unknown-stanza"]);
    expect((await issuesOf(files)).map(place)).toEqual(["root.conf:1 unknown-option", "a.conf:1 unknown-stanza"]);
  });

  test("loadPolicy refuses a file that is not there", async () => {
    const issues = await issuesOf({}, "nowhere.conf");
    expect(issues).toMatchObject([{ rule: "include", source: join(folder, "nowhere.conf") }]);
    await expect(loadPolicy(join(folder, "nowhere.conf"))).rejects.toThrow("nowhere.conf");
  });

  test("loadPolicy refuses a folder for a policy file", async () => {
    expect(await issuesOf({ "a/x.conf": "" }, "a")).toMatchObject([{ rule: "include", source: join(folder, "a") }]);
  });
});

describe("loadPolicy: include", () => {
  test.each([
    'include "a.conf"',
    "include 'a.conf'",
    "include a.conf",
    'readonly_include "a.conf"',
    'Include "a.conf"',
    'READONLY_INCLUDE\n"a.conf"',
  ])("loadPolicy reads what %j names", async (include) => {
    const policy = await load({ "root.conf": `${include}\n${scopeMax} = 3`, "a.conf": `${max} = 5` });
    expect(String(policy)).toBe(String(parsePolicy(`${max} = 5 ${scopeMax} = 3`)));
  });

  test("loadPolicy reads an include where it stands: what comes later wins", async () => {
    const after = await load({ "root.conf": `${max} = 1\ninclude "a.conf"`, "a.conf": `${max} = 2` });
    expect(limitsOf(after, { domain: d })).toEqual([2]);
    const before = await load({ "root.conf": `include "a.conf"\n${max} = 1`, "a.conf": `${max} = 2` });
    expect(limitsOf(before, { domain: d })).toEqual([1]);
  });

  test("loadPolicy reads an include into the stanza it stands in", async () => {
    const policy = await load({
      "root.conf": `binding_group g { binding b { include "b.conf" } }\ndomain /\\.fr$/ {\n  include "slow.conf"\n}\nhost mx { include "slow.conf" }`,
      "b.conf": `domain ${d} { include "slow.conf" }\n${max} = 9`,
      "slow.conf": `${max} = 2`,
    });
    const text = `binding_group g { binding b { ${max} = 9 domain ${d} { ${max} = 2 } } } domain /\\.fr$/ { ${max} = 2 } host mx { ${max} = 2 }`;
    expect(String(policy)).toBe(String(parsePolicy(text)));
    expect(policy.warnings).toEqual([]);
  });

  test("loadPolicy looks in the folder of the file that includes, then in that of the root file", async () => {
    const files = {
      "root.conf": 'include "inner/a.conf"',
      "inner/a.conf": 'include "both.conf"\ninclude "outer.conf"',
      "inner/both.conf": `${max} = 5`,
      "both.conf": `${max} = 6`,
      "outer.conf": `${scopeMax} = 7`,
    };
    const policy = await load(files);
    expect(String(policy)).toBe(String(parsePolicy(`${max} = 5 ${scopeMax} = 7`)));
  });

  test("loadPolicy takes absolute paths", async () => {
    const policy = await load({ "root.conf": `include "${join(folder, "far/a.conf")}"`, "far/a.conf": `${max} = 5` });
    expect(limitsOf(policy, { domain: d })).toEqual([5]);
  });

  test("loadPolicy reads one file in several places", async () => {
    const policy = await load({
      "root.conf": 'domain a.example { include "slow.conf" }\ndomain b.example { include "slow.conf" }',
      "slow.conf": `${max} = 2`,
    });
    expect(String(policy)).toBe(String(parsePolicy(`domain a.example { ${max} = 2 } domain b.example { ${max} = 2 }`)));
  });

  test("loadPolicy reads BOM and CRLF in an included file", async () => {
    const policy = await load({ "root.conf": '\ufeffinclude "a.conf"\r\n', "a.conf": `\ufeff${max} = 5\r\n` });
    expect(limitsOf(policy, { domain: d })).toEqual([5]);
  });

  test("loadPolicy reads no include of a stanza that is not ours", async () => {
    const text = `scriptlet "s" { include "no.conf" x { readonly_include "no.d" } }\nList = ( include "no.conf" )\n# include "no.conf"\n${max} = 5`;
    const policy = await load({ "root.conf": text }, { unknown: "ignore" });
    expect(limitsOf(policy, { domain: d })).toEqual([5]);
    expect(policy.warnings.map(({ rule }) => rule)).toEqual(["unknown-stanza", "unknown-option"]);
  });
});

describe("loadPolicy: folders", () => {
  test("loadPolicy reads the files of a folder in alphabetical order, without hidden ones and folders", async () => {
    const policy = await load({
      "root.conf": 'include "conf.d"',
      "conf.d/20-b.conf": `domain /b/ { ${max} = 2 } ${max} = 20`,
      "conf.d/10-a.conf": `domain /a/ { ${max} = 1 } ${max} = 10`,
      "conf.d/c": `domain /c/ { ${max} = 3 }`,
      "conf.d/.hidden.conf": "this { is = not read",
      "conf.d/inner/d.conf": "nor is { this",
    });
    const text = `${max} = 20 domain /a/ { ${max} = 1 } domain /b/ { ${max} = 2 } domain /c/ { ${max} = 3 }`;
    expect(String(policy)).toBe(String(parsePolicy(text)));
    expect(policy.warnings.map(place)).toEqual(["conf.d/20-b.conf:1 duplicate"]);
  });

  test("loadPolicy takes a folder with a slash behind it, an empty one, one of links, and one inside a stanza", async () => {
    await mkdir(join(folder, "empty"));
    await mkdir(join(folder, "links"));
    await symlink("../a.conf", join(folder, "links", "a"));
    const policy = await load({
      "root.conf": 'include "empty"\ninclude "conf.d/"\ndomain d.example { readonly_include "links" }',
      "conf.d/x": `${scopeMax} = 3`,
      "a.conf": `${max} = 5`,
    });
    expect(String(policy)).toBe(String(parsePolicy(`${scopeMax} = 3 domain d.example { ${max} = 5 }`)));
  });

  test("loadPolicy looks for files that a file of a folder includes in that folder first", async () => {
    const policy = await load({
      "root.conf": 'include "conf.d"',
      "conf.d/a": 'include ".shared"',
      "conf.d/.shared": `${max} = 5`,
      ".shared": `${max} = 6`,
    });
    expect(limitsOf(policy, { domain: d })).toEqual([5]);
  });
});

describe("loadPolicy: includes that cannot be read", () => {
  test.each([
    ["a missing file", 'include "no.conf"'],
    ["a missing file by readonly_include", "readonly_include no.conf"],
    ["a missing absolute path", 'include "/no/such/file.conf"'],
    ["a path through a file", 'include "root.conf/a.conf"'],
    ["a URL", 'include "http://example.com/a.conf"'],
    ["a URL of a file", 'include "file:///etc/hostname"'],
    ["a persist URL", 'include "persist://a.conf"'],
  ])("loadPolicy refuses %s at the include that names it", async (_, include) => {
    const text = `${max} = 5\ndomain ${d} {\n\t${include}\n}\n`;
    expectAtInclude(await issuesOf({ "root.conf": text }), "root.conf", 3);
    const inner = { "root.conf": '\ninclude "inner/a.conf"', "inner/a.conf": text };
    expectAtInclude(await issuesOf(inner), "inner/a.conf", 3);
  });

  test("loadPolicy names the file that is missing", async () => {
    const [issue] = await issuesOf({ "root.conf": 'include "no.conf"' });
    expect(issue?.message).toContain("no.conf");
  });

  test("loadPolicy refuses a dangling link, and one in a folder, at the include", async () => {
    await symlink(join(folder, "nowhere"), join(folder, "a.conf"));
    expectAtInclude(await issuesOf({ "root.conf": '\ninclude "a.conf"' }), "root.conf", 2);
    await mkdir(join(folder, "conf.d"));
    await symlink(join(folder, "nowhere"), join(folder, "conf.d", "a.conf"));
    const issues = await issuesOf({ "root.conf": '\n\ninclude "conf.d"', "conf.d/b.conf": "" });
    expectAtInclude(issues, "root.conf", 3);
    expect(issues[0]!.message).toContain(join("conf.d", "a.conf"));
  });

  test.each([
    ["itself", { "root.conf": '\ninclude "root.conf"' }, "root.conf:2"],
    ["itself by another path", { "root.conf": '\ninclude "a/../root.conf"', "a/x": "" }, "root.conf:2"],
    ["itself by a folder", { "root.conf": '\ninclude "."' }, "root.conf:2"],
    ["its includer", { "root.conf": 'include "a.conf"', "a.conf": '\n\ninclude "root.conf"' }, "a.conf:3"],
    [
      "the includer of its includer, in stanzas",
      {
        "root.conf": 'binding b { include "a.conf" }',
        "a.conf": `domain ${d} {\n  include "b.conf"\n}`,
        "b.conf": `${max} = 5\n\n\n  include "a.conf"`,
      },
      "b.conf:4",
    ],
    ["its own folder", { "root.conf": 'include "conf.d"', "conf.d/a": '\ninclude "../conf.d"' }, "conf.d/a:2"],
  ])("loadPolicy refuses a file that includes %s", async (_, files, where) => {
    const [file = "", line] = where.split(":");
    expectAtInclude(await issuesOf(files), file, Number(line));
  });

  test("loadPolicy refuses a cycle by a link to the file, and by a link to the folder", async () => {
    await symlink("root.conf", join(folder, "link.conf"));
    expectAtInclude(await issuesOf({ "root.conf": '\ninclude "link.conf"' }), "root.conf", 2);
    await symlink(".", join(folder, "loop"));
    expectAtInclude(await issuesOf({ "root.conf": '\n\ninclude "loop/root.conf"' }), "root.conf", 3);
    const inner = await issuesOf({ "root.conf": 'include "loop/a.conf"', "a.conf": '\n\ninclude "loop/a.conf"' });
    expect(inner.map(place)).toEqual(["loop/a.conf:3 include"]);
    await symlink("knot", join(folder, "knot"));
    expectAtInclude(await issuesOf({ "root.conf": '\n\n\ninclude "knot"' }), "root.conf", 4);
  });

  test("loadPolicy ends, when files include each other twice over", async () => {
    const files: Record<string, string> = { "root.conf": 'include "0"', "40": `${max} = 5` };
    for (let level = 0; level < 40; level++) files[String(level)] = `include "${level + 1}"\ninclude "${level + 1}"`;
    const issues = await issuesOf(files);
    expect(issues.length).toBeGreaterThan(0);
    expect(new Set(issues.map(({ rule }) => rule))).toEqual(new Set(["include"]));
  });
});

describe("loadPolicy: mistakes", () => {
  test("loadPolicy lists the mistakes of all files in the order they are read, each in its own file", async () => {
    const issues = await issuesOf({
      "root.conf": `foo = 1\ndomain ${d} {\n  include "a.conf"\n}\ninclude "no.conf"\ninclude "conf.d"\n${max} = five`,
      "a.conf": `\n${reserve} = 5\n  include "b.conf"\n${max} = six`,
      "b.conf": `# b\n\tdomain x { }`,
      "conf.d/1": `max_outbund_connections = 5`,
      "conf.d/2": `${max} 5`,
    });
    expect(issues.map(place)).toEqual([
      "root.conf:1 unknown-option",
      "a.conf:2 wrong-scope",
      "b.conf:2 wrong-scope",
      "a.conf:4 bad-value",
      "root.conf:5 include",
      "conf.d/1:1 unknown-option",
      "conf.d/2:1 syntax",
      "root.conf:7 bad-value",
    ]);
    for (const issue of issues) {
      expect(textAt(texts[relative(folder, issue.source)] ?? "", issue).startsWith(underlined(issue.excerpt))).toBe(
        true,
      );
    }
  });

  test("loadPolicy does not let a stanza run over the end of a file", async () => {
    const open = await issuesOf({ "root.conf": `include "a.conf"\n${serverMax} = 5`, "a.conf": `\ndomain ${d} {` });
    expect(open.map(place)).toEqual(["a.conf:2 syntax"]);
    const close = await issuesOf({ "root.conf": `domain ${d} {\n  include "a.conf"\n}`, "a.conf": `${max} = 5\n}` });
    expect(close.map(place)).toEqual(["a.conf:2 syntax"]);
    const comment = await issuesOf({ "root.conf": `include "a.conf"\n${serverMax} = 5`, "a.conf": "/*" });
    expect(comment.map(place)).toEqual(["a.conf:1 syntax"]);
  });

  test("loadPolicy warns of an option set twice in two files, and names both", async () => {
    const policy = await load({ "root.conf": `\n${max} = 1\ninclude "a.conf"`, "a.conf": `\n\n  ${max} = 2` });
    expect(policy.warnings.map(place)).toEqual(["a.conf:3 duplicate"]);
    expect(policy.warnings[0]!.message).toMatch(/root\.conf:2\b.*a\.conf:3\b/);
  });

  test("loadPolicy refuses a binding put into two groups by two files, and names both", async () => {
    const issues = await issuesOf({
      "root.conf": `binding b { binding_group = g }\ninclude "a.conf"`,
      "a.conf": "\nbinding_group h { binding b { } }",
    });
    expect(issues.map(place)).toEqual(["a.conf:2 duplicate"]);
    expect(issues[0]!.message).toMatch(/root\.conf:1\b.*a\.conf:2\b/);
  });

  test("loadPolicy throws a PolicyError that a terminal can jump to", async () => {
    await write({ "root.conf": "\n  foo = 1" });
    await expect(loadPolicy(join(folder, "root.conf"))).rejects.toThrow(
      `${join(folder, "root.conf")}:2:3: unknown option`,
    );
  });
});
