// outbound-limiter check: what it says about a policy, as text and as data, and its exit status.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { PolicyError, type PolicyIssue, parsePolicy } from "../../src/index.js";
import { builtCommand } from "./built.js";

const command = builtCommand();
const MAX = "max_outbound_connections";
const SCOPE_MAX = "scope_max_outbound_connections";

const BAD = `max_outbund_connections = 20
domain "gmail.com" {
\tserver_${MAX} = 50
}
`;
const LOOSE = `domain "/gmail.com/" {\n  ${MAX} = 5\n}\n`;

type Leveled = PolicyIssue & { readonly level: "error" | "warning" };

async function checkedAsJson(...args: string[]): Promise<{ status: number | null; found: readonly Leveled[] }> {
  const { status, stdout, stderr } = await command.run(["check", "--json", ...args]);
  expect(stderr).toBe("");
  return { status, found: JSON.parse(stdout) };
}

/** The error that the policy has when a program reads it. */
function errorOf(text: string, source: string): PolicyError {
  try {
    parsePolicy(text, { source });
  } catch (error) {
    if (error instanceof PolicyError) return error;
  }
  throw new Error(`No mistake in ${text}`);
}

describe("outbound-limiter check", () => {
  it("says every issue as a PolicyError does, and fails", async () => {
    command.write("bad.conf", BAD);
    const { status, stdout, stderr } = await command.run(["check", "bad.conf"]);
    expect({ status, stderr }).toEqual({ status: 1, stderr: "" });
    expect(stdout).toBe(`${errorOf(BAD, "bad.conf").message}\n\nbad.conf: 2 issues\n`);
    expect(stdout).toMatch(/^bad\.conf:1:1: unknown option `max_outbund_connections`$/m);
    expect(stdout).toContain("\n  3 | \tserver_max_outbound_connections = 50\n    | \t^^^^");
  });

  it("is content with a sound policy", async () => {
    command.write("good.conf", `${MAX} = 20`);
    expect(await command.run(["check", "good.conf"])).toEqual({
      status: 0,
      stdout: "good.conf: no issues\n",
      stderr: "",
    });
  });

  it("says what deserves a look, and fails for it only when asked to", async () => {
    command.write("loose.conf", LOOSE);
    const { status, stdout } = await command.run(["check", "loose.conf"]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^loose\.conf:1:8: warning: `\/gmail\.com\/` has no `\^` and no `\$`/);
    expect(stdout).toMatch(/^ {2}1 \| domain "\/gmail\.com\/" \{\n {4}\| {8}\^+\n {2}help: write /m);
    expect(stdout).toMatch(/^loose\.conf: no issues, 1 warning$/m);
    expect(await command.run(["check", "--strict", "loose.conf"])).toEqual({ status: 1, stdout, stderr: "" });
  });

  it("says that an option is set twice, and that a limit is out of reach", async () => {
    command.write("odd.conf", `domain d.example {\n  ${SCOPE_MAX} = 10\n  ${MAX} = 5\n  ${MAX} = 50\n}`);
    const { stdout } = await command.run(["check", "odd.conf"]);
    expect(stdout.match(/^odd\.conf:4:3: warning: .*/gm)).toEqual([
      expect.stringMatching(/is set twice in domain "d\.example": 5 at odd\.conf:3:3, then 50 at odd\.conf:4:3$/),
      expect.stringMatching(/= 50` in domain "d\.example" can never be reached: .* at odd\.conf:2:3 is 10$/),
    ]);
    expect(stdout).toMatch(/^odd\.conf: no issues, 2 warnings$/m);
  });

  it("--json: issues and warnings as data, and the same exit status", async () => {
    command.write("bad.conf", BAD);
    command.write("loose.conf", LOOSE);
    command.write("good.conf", `${MAX} = 20`);
    const issues = errorOf(BAD, "bad.conf").issues.map((issue) => ({ level: "error", ...issue }));
    expect(await checkedAsJson("bad.conf")).toEqual({ status: 1, found: issues });
    const [warning, ...more] = parsePolicy(LOOSE, { source: "loose.conf" }).warnings;
    expect(more).toEqual([]);
    expect(await checkedAsJson("loose.conf")).toEqual({ status: 0, found: [{ level: "warning", ...warning }] });
    expect(await checkedAsJson("--strict", "loose.conf")).toMatchObject({ status: 1 });
    expect(await checkedAsJson("good.conf")).toEqual({ status: 0, found: [] });
  });

  it("--ignore-unknown: reads a whole ecelerity.conf, and says on one line each what it skips", async () => {
    expect((await command.run(["check", "ecelerity.conf"])).status).toBe(1);
    const { status, stdout } = await command.run(["check", "--ignore-unknown", "ecelerity.conf"]);
    expect(status).toBe(0);
    expect(stdout).toContain("ecelerity.conf:6:1: warning: ignored option `Hostname`\necelerity.conf:7:1: warning: ");
    expect(stdout).toMatch(/^ecelerity\.conf: no issues, 1 warning, 30 ignored$/m);
    const { found } = await checkedAsJson("--ignore-unknown", "ecelerity.conf");
    expect(found.filter(({ rule }) => rule.startsWith("unknown-"))).toHaveLength(30);
  });

  it("--strict does not fail for what --ignore-unknown skips", async () => {
    command.write("foreign.conf", `Hostname = "mta"\n${MAX} = 20`);
    const args = ["check", "--strict", "--ignore-unknown", "foreign.conf"];
    expect(await command.run(args)).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/no issues, 1 ignored\n$/),
    });
  });

  it.each([
    ["gone.conf", "no such file or folder"],
    [".", "it is a folder"],
    ["ecelerity.conf/x", "not a directory"],
  ])("%s cannot be read, which is trouble and no issue", async (path, reason) => {
    for (const options of [[], ["--json"]]) {
      expect(await command.run(["check", ...options, path])).toEqual({
        status: 2,
        stdout: "",
        stderr: `outbound-limiter check: ${path}: cannot read the policy: ${reason}\n`,
      });
    }
  });

  it("an include that cannot be read is an issue of the policy, at its place", async () => {
    command.write("root.conf", `${MAX} = 20\ninclude "gone.conf"\n`);
    const { status, stdout } = await command.run(["check", "root.conf"]);
    expect(status).toBe(1);
    expect(stdout).toMatch(/^root\.conf:2:9: cannot read `gone\.conf`/);
  });

  it("names the file that a mistake is in, not the one that includes it", async () => {
    mkdirSync(join(command.folder, "conf.d"), { recursive: true });
    command.write("conf.d/10-a.conf", `\n  ${MAX} = many\n`);
    command.write("parts.conf", 'include "conf.d"\n');
    const { stdout } = await command.run(["check", "parts.conf"]);
    expect(stdout).toMatch(/^conf\.d\/10-a\.conf:2:30: `many` is not a number of connections$/m);
  });

  it("reads the standard input for -, and a pipe", async () => {
    const fromInput = await command.run(["check", "-"], BAD);
    expect(fromInput).toMatchObject({ status: 1, stdout: expect.stringMatching(/^<stdin>:1:1: unknown option/) });
    expect(await command.run(["check", "-"], `${MAX} = 20`)).toMatchObject({
      status: 0,
      stdout: "<stdin>: no issues\n",
    });
    command.write("good.conf", `${MAX} = 20`);
    const fromPipe = await command.shell("outbound-limiter check <(cat good.conf)");
    expect(fromPipe).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^\/dev\/fd\/\d+: no issues\n$/),
      stderr: "",
    });
  });

  it("reads ten thousand stanzas, and says every issue that a PolicyError has", async () => {
    const stanzas = Array.from(
      { length: 10_000 },
      (_, index) => `domain "d${index}.example" { ${MAX} = ${index + 1} }`,
    );
    command.write("large.conf", stanzas.join("\n"));
    expect(await command.run(["check", "large.conf"])).toMatchObject({ status: 0, stdout: "large.conf: no issues\n" });
    command.write("large.conf", stanzas.join("\n").replaceAll("} ", "}").replaceAll("= ", "= x"));
    const { status, found } = await checkedAsJson("large.conf");
    expect(status).toBe(1);
    expect(found.map(({ line }) => line)).toEqual(Array.from({ length: 50 }, (_, index) => index + 1));
  });
});
