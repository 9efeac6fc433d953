// The command `outbound-limiter` as a whole: help, mistakes in its arguments, pipes, colours. Each command has its own file.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { builtCommand } from "./built.js";

const command = builtCommand();
const COMMANDS = ["check", "explain", "diff", "simulate"];
const MAX = "max_outbound_connections";

/** Ten thousand stanzas that all get the same limit. */
const large = (limit: number): string =>
  Array.from({ length: 10_000 }, (_, index) => `domain "d${index}.example" { ${MAX} = ${limit} }\n`).join("");

describe("outbound-limiter", () => {
  it("--help names every command and says what its exit status means", async () => {
    const { status, stdout, stderr } = await command.run(["--help"]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    for (const name of COMMANDS) expect(stdout).toMatch(new RegExp(`^  ${name} +\\S`, "m"));
    expect(stdout).toContain("Exit status:");
    for (const words of [["-h"], ["help"]]) expect((await command.run(words)).stdout).toBe(stdout);
  });

  it.each(COMMANDS)("%s --help has its usage, its options, its exit status and examples", async (name) => {
    const { status, stdout } = await command.run([name, "--help"]);
    expect(status).toBe(0);
    for (const words of [`Usage: outbound-limiter ${name} `, "Options:", "Exit status:", "Examples:"]) {
      expect(stdout).toContain(words);
    }
    for (const args of [
      [name, "-h"],
      [name, "limits.conf", "--help"],
      ["help", name],
    ]) {
      expect((await command.run(args)).stdout).toBe(stdout);
    }
  });

  it.each(["check", "explain", "diff"])("the examples of %s --help run", async (name) => {
    command.write("limits.conf", `${MAX} = 20`);
    command.write("limits.new.conf", `${MAX} = 20`);
    command.write("busy-domains.txt", "gmail.com\n");
    const { stdout } = await command.run([name, "--help"]);
    const examples = stdout.slice(stdout.indexOf("Examples:")).match(/^ {2}outbound-limiter .*$/gm) ?? [];
    // What comes behind a command, and files of other programs, need not be here.
    const own = examples.map((line) => line.split(/ \||&& /, 1)[0] ?? "").filter((line) => !line.includes("/opt/"));
    expect(own.length).toBeGreaterThan(1);
    for (const line of own) expect(await command.shell(line)).toMatchObject({ status: 0, stderr: "" });
  });

  it("--version is that of the package", async () => {
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "../../package.json"), "utf8"));
    expect(await command.run(["--version"])).toEqual({ status: 0, stdout: `${version}\n`, stderr: "" });
  });

  it("without a command says how it is used, as an error", async () => {
    const { stdout } = await command.run(["--help"]);
    expect(await command.run([])).toEqual({ status: 2, stdout: "", stderr: stdout });
  });

  it.each([
    [["chek", "limits.conf"], "outbound-limiter: unknown command chek; did you mean check?"],
    [["frobnicate"], `outbound-limiter: unknown command frobnicate; there are ${COMMANDS.join(", ")}`],
    [["help", "explian"], "outbound-limiter: unknown command explian; did you mean explain?"],
    [["--hepl"], "outbound-limiter: unknown option --hepl; did you mean --help?"],
    [["check", "--stirct", "limits.conf"], "outbound-limiter check: unknown option --stirct; did you mean --strict?"],
    [
      ["explain", "limits.conf", "--domian=d"],
      "outbound-limiter explain: unknown option --domian; did you mean --domain?",
    ],
    [["check", "-x", "limits.conf"], "outbound-limiter check: unknown option -x"],
    [["explain", "limits.conf", "--domain"], "outbound-limiter explain: Option '--domain <value>' argument missing"],
    [["check", "--json=yes", "limits.conf"], "outbound-limiter check: Option '--json' does not take an argument"],
    [["check"], "outbound-limiter check: FILE is missing"],
    [["check", "a", "b"], "outbound-limiter check: one argument too many: b; expected FILE"],
    [["diff", "a"], "outbound-limiter diff: NEW is missing"],
  ])("%j is refused", async (args, message) => {
    const { status, stdout, stderr } = await command.run(args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    const [first, hint] = stderr.split("\n");
    expect(first).toBe(message);
    expect(hint).toMatch(/^Try `outbound-limiter( \w+)? --help`\.$/);
  });

  it("behind -- a name is a file, whatever it looks like", async () => {
    command.write("--help", `${MAX} = 20`);
    expect(await command.run(["check", "--", "--help"])).toMatchObject({ status: 0, stdout: "--help: no issues\n" });
  });
});

describe("outbound-limiter in a pipe", () => {
  it("says nothing and keeps its exit status when the reader stops reading", async () => {
    command.write("old.conf", large(5));
    command.write("new.conf", large(6));
    const child = spawn(command.path, ["diff", "old.conf", "new.conf"], { cwd: command.folder });
    let stderr = "";
    child.stderr.on("data", (words) => (stderr += words));
    const closed = once(child, "close");
    await once(child.stdout, "data");
    child.stdout.destroy();
    await closed;
    expect({ status: child.exitCode, signal: child.signalCode, stderr }).toEqual({
      status: 1,
      signal: null,
      stderr: "",
    });
  });

  it.each(["diff old.conf new.conf", "check --json bad.conf", "--help", "explain --json old.conf --domain d1.example"])(
    "%s | head -1 is one line and no complaint",
    async (line) => {
      command.write("old.conf", large(5));
      command.write("new.conf", large(6));
      command.write("bad.conf", large(5).replaceAll("= 5", "= five"));
      const { stdout, stderr } = await command.shell(`outbound-limiter ${line} | head -n 1`);
      expect(stdout.trimEnd().split("\n")).toHaveLength(1);
      expect(stderr).toBe("");
    },
  );

  it.runIf(existsSync("/dev/full"))("says that it cannot write to a full disk, which is trouble", async () => {
    command.write("limits.conf", `${MAX} = 20`);
    const { status, stderr } = await command.shell("outbound-limiter check limits.conf > /dev/full");
    expect(status).toBe(2);
    expect(stderr).toBe("outbound-limiter: cannot write the answer: no space left on device\n");
  });
});

describe("outbound-limiter and colours", () => {
  const ESCAPE = "\u001b[";
  const lines = ["check bad.conf", "explain good.conf --domain d.example", "diff good.conf other.conf"];
  const files = (): void => {
    command.write("bad.conf", `${MAX}s = 20`);
    command.write("good.conf", `${MAX} = 20`);
    command.write("other.conf", `${MAX} = 30`);
  };
  /** Runs a line in a terminal. */
  const terminal = (line: string) => command.shell(`script --quiet --return --command '${line}' /dev/null </dev/null`);
  const hasTerminal = (process.env["PATH"] ?? "").split(":").some((folder) => existsSync(join(folder, "script")));

  it.each(lines)("%s: none in a pipe", async (line) => {
    files();
    const { stdout, stderr } = await command.shell(`outbound-limiter ${line}`);
    expect(stdout).not.toBe("");
    expect(stdout + stderr).not.toContain(ESCAPE);
  });

  it.runIf(hasTerminal).each(lines)("%s: on a terminal, and not under NO_COLOR", async (line) => {
    files();
    const coloured = await terminal(`TERM=xterm outbound-limiter ${line}`);
    const plain = await terminal(`TERM=xterm NO_COLOR=1 outbound-limiter ${line}`);
    expect(coloured.stdout).toContain(ESCAPE);
    expect(plain.stdout).not.toContain(ESCAPE);
    // Nothing but the colours differs.
    const [first, ...rest] = coloured.stdout.split(ESCAPE);
    expect([first, ...rest.map((part) => part.replace(/^\d+m/, ""))].join("")).toBe(plain.stdout);
    expect(coloured.status).toBe(plain.status);
  });

  it.runIf(hasTerminal)("progress is on a terminal only, and gone before the answer", async () => {
    command.write("old.conf", `${MAX} = 20`);
    command.write("new.conf", `${MAX} = 20`);
    command.write("targets.txt", "d1.example\n".repeat(2500));
    const line = "outbound-limiter diff old.conf new.conf --targets targets.txt";
    expect((await command.shell(line)).stderr).toBe("");
    const { stdout } = await terminal(`TERM=xterm NO_COLOR=1 ${line}`);
    expect(stdout).toContain("2000 of 2500 targets");
    expect(stdout).toContain(`\r${ESCAPE}KNone of 2500 targets`);
  });
});
