// The command as it is built and as a shell starts it: from a copy, so that a test run neither needs nor touches `dist`.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll } from "vitest";

const ROOT = join(import.meta.dirname, "../..");

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Command {
  /** The folder that it is started in. */
  readonly folder: string;
  /** The file that `bin` names. */
  readonly path: string;
  /** Writes a file into the folder. */
  write(name: string, text: string): void;
  run(args: readonly string[], input?: string): Promise<Ran>;
  /** Runs a line of shell in which `outbound-limiter` is the command. */
  shell(line: string): Promise<Ran>;
}

/** Builds the command before the tests of a file, and removes it after them. */
export function builtCommand(): Command {
  const scratch = realpathSync(mkdtempSync(join(tmpdir(), "outbound-limiter-command-")));
  const [copy, folder, bin] = [join(scratch, "repository"), join(scratch, "folder"), join(scratch, "bin")];
  let path = "";

  beforeAll(() => {
    for (const name of ["src", "package.json", "tsconfig.json", "tsconfig.build.json", "tsup.config.ts"]) {
      cpSync(join(ROOT, name), join(copy, name), { recursive: true });
    }
    symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"), "junction");
    execFileSync("npm", ["run", "build", "--silent"], { cwd: copy, encoding: "utf8", stdio: "pipe" });
    const { bin: bins } = JSON.parse(readFileSync(join(copy, "package.json"), "utf8"));
    path = join(copy, bins["outbound-limiter"]);
    for (const made of [folder, bin]) cpSync(join(ROOT, "test/policy/fixtures"), made, { recursive: true });
    symlinkSync(path, join(bin, "outbound-limiter"));
  }, 120_000);
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  const started = async (file: string, args: readonly string[], input: string): Promise<Ran> => {
    // Node takes a terminal under CI for one without colours.
    const { NO_COLOR: _no, FORCE_COLOR: _force, CI: _ci, ...env } = process.env;
    const child = spawn(file, args, { cwd: folder, env: { ...env, PATH: `${bin}:${env["PATH"]}` } });
    child.stdin.on("error", () => {
      // It need not read all of it.
    });
    child.stdin.end(input);
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    return { status: child.exitCode, stdout, stderr };
  };
  return {
    folder,
    get path() {
      return path;
    },
    write: (name, words) => writeFileSync(join(folder, name), words),
    run: (args, input = "") => started(path, args, input),
    shell: (line) => started("bash", ["-c", line], ""),
  };
}
