// The README, block by block, as a reader would use it: programs run and print what it says, policies parse, its picture and
// its tables agree with the library.
//
// In a comment right above a block:
//   needs: limiter, host, port    the program may take these for granted: a limiter, and a real SMTP receiver on loopback
//   needs: …; a Redis             besides, there is one at REDIS_URL, on which others are at work already
//   look-up order                 the picture

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { check } from "../src/cli/check.js";
import { diff } from "../src/cli/diff.js";
import { explain } from "../src/cli/explain.js";
import { simulate } from "../src/cli/simulate.js";
import * as library from "../src/index.js";
import { redisCluster } from "../src/redis.js";
import { parseTraffic } from "../src/simulate/traffic.js";
import { describeRedis, openRedis } from "./redis/server.js";

const { createLimiter, loadPolicy, parsePolicy } = library;
const ROOT = join(import.meta.dirname, "..");
const README = readFileSync(join(ROOT, "README.md"), "utf8");
const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
  readonly name: string;
  readonly scripts: Readonly<Record<string, string>>;
};

// ── What is in it ────────────────────────────────────────────────────────────────────────────────

interface Block {
  readonly language: string;
  readonly text: string;
  readonly line: number;
  /** Of the comment right above. */
  readonly note: string;
  /** Of a program: the `text` block right behind it. */
  output: string;
}

const needsRedis = ({ note }: Block): boolean => /^needs: .*; a Redis$/.test(note);
const isProgram = ({ language }: Block): boolean => language === "js" || language === "ts";
const isPicture = ({ language, note }: Block): boolean => language === "text" && note === "look-up order";

/** The blocks, each output given to its program. */
function readBlocks(): Block[] {
  const fenced = /(?:^<!-- (.*) -->\n\n)?^```(.*)\n([\s\S]*?)^```$/gm;
  const blocks: Block[] = [];
  let end = 0;
  for (const { 0: all, 1: note = "", 2: language = "", 3: text = "", index } of README.matchAll(fenced)) {
    const line = README.slice(0, README.indexOf("```", index)).split("\n").length;
    const before = blocks.at(-1);
    const isRightBehind = note === "" && README.slice(end, index) === "\n\n";
    if (language === "text" && isRightBehind && before !== undefined && isProgram(before)) before.output = text;
    else blocks.push({ language, text, line, note, output: "" });
    end = index + all.length;
  }
  return blocks;
}

/** The rows of the table whose first column has this title, each as its cells, without backticks. */
function readTable(title: string): string[][] {
  const [, rows = ""] = README.split(`\n| ${title} |`, 2)[1]?.split(/\|\n\|[-|]+\|\n/, 2) ?? [];
  const [table = ""] = rows.split("\n\n", 1);
  return table.split("\n").map((row) =>
    row
      .replaceAll("`", "")
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

const blocks = readBlocks();
const programs = blocks.filter(isProgram);
const policies = blocks.filter(({ language }) => language === "conf");

// ── A folder like that of a reader who installed the package ─────────────────────────────────────

const scratch = mkdtempSync(join(tmpdir(), "outbound-limiter-readme-"));
const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;

/** What programs may need, and `finish`: true once a connection was made and every lease is back. */
const NEEDS = `
import { once } from "node:events";
import type { AddressInfo, Server } from "node:net";
import { createLimiter, type LocalLimiter, parsePolicy } from "outbound-limiter";
import { SMTPServer } from "smtp-server";

let connections = 0;
const receiver = new SMTPServer({
  authOptional: true,
  disableReverseLookup: true,
  onData: (stream, _session, done) => stream.on("end", done).resume(),
});
receiver.on("error", () => {}); // a sender that leaves in the middle
const server: Server = receiver.server;
server.on("connection", () => connections++);
receiver.listen(0, "127.0.0.1");
await once(server, "listening");

export const host = "127.0.0.1";
export const port: number = (server.address() as AddressInfo).port;
export const limiter: LocalLimiter = createLimiter(parsePolicy("max_outbound_connections = 2"));
export async function finish(): Promise<void> {
  await limiter.close();
  await new Promise<void>((closed) => receiver.close(closed));
  if (connections === 0) throw new Error("The program made no connection");
}
`;

beforeAll(() => {
  const modules = join(scratch, "node_modules");
  mkdirSync(join(modules, manifest.name), { recursive: true });
  mkdirSync(join(modules, "@types"));
  for (const name of ["ioredis", "nodemailer", "prom-client", "smtp-server", "@types/node"]) {
    symlinkSync(join(ROOT, "node_modules", name), join(modules, name), "junction");
  }
  // The sources stand for the package: how it is built and packed has a test of its own.
  symlinkSync(join(ROOT, "src"), join(modules, manifest.name, "src"), "junction");
  writeFileSync(
    join(modules, manifest.name, "package.json"),
    JSON.stringify({
      name: manifest.name,
      type: "module",
      exports: Object.fromEntries(
        ["index", "metrics", "nodemailer", "redis"].map((name) => [
          name === "index" ? "." : `./${name}`,
          `./src/${name}.ts`,
        ]),
      ),
    }),
  );
  writeFileSync(join(scratch, "package.json"), JSON.stringify({ type: "module" }));
  writeFileSync(join(scratch, "needs.ts"), NEEDS);
  const compilerOptions = { module: "nodenext", target: "es2022", strict: true, types: ["node"], noEmit: true };
  writeFileSync(join(scratch, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }));
  for (const { text } of policies) writeFileSync(join(scratch, "limits.conf"), text);
  for (const block of programs) writeFileSync(join(scratch, fileOf(block)), completed(block));
});

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const fileOf = ({ language, line }: Block): string => `line-${line}.${language}`;

/** On the same lines, so that errors name the right ones. */
function completed({ text, note }: Block): string {
  const [, needs] = /^needs: ([^;]*)/.exec(note) ?? [];
  return needs === undefined ? text : `import { finish, ${needs} } from "./needs.js"; ${text}\nawait finish();\n`;
}

function run(
  args: readonly string[],
  more: NodeJS.ProcessEnv = {},
): {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
} {
  // The receiver's certificate is nobody's.
  const env = { ...process.env, NODE_TLS_REJECT_UNAUTHORIZED: "0", NODE_NO_WARNINGS: "1", ...more };
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: scratch,
    encoding: "utf8",
    env,
    timeout: 60_000,
  });
  return { status, stdout, stderr: stderr.replace(/^WARNING: smtp-server is using the built-in .*\n/gm, "") };
}

/** The only thing that may differ from run to run. */
const withoutTimes = (text: string): string => text.replace(/\d+(?:\.\d+)? (?=m?s\b)/g, "… ");

function runs(block: Block, more?: NodeJS.ProcessEnv): void {
  const { status, stdout, stderr } = run(["--import", tsx, fileOf(block)], more);
  expect(stderr).toBe("");
  expect(withoutTimes(stdout)).toBe(withoutTimes(block.output));
  expect(status).toBe(0);
}

// ── The tests ────────────────────────────────────────────────────────────────────────────────────

describe("README", { timeout: 90_000 }, () => {
  it.each(programs.filter((block) => !needsRedis(block)))(
    "the program at line $line runs and prints what stands behind it",
    (block) => runs(block),
  );

  it("has TypeScript that compiles", () => {
    const { stdout } = run([join(ROOT, "node_modules", "typescript", "bin", "tsc"), "-p", "."]);
    expect(stdout).toBe("");
    expect(programs.filter(({ language }) => language === "ts")).not.toEqual([]);
  });

  it.each(policies)("the policy at line $line parses, from text and from a file", async ({ text, line }) => {
    const policy = parsePolicy(text);
    // A reserve beside scope_max in a domain is fine here; Momentum wants it at 0.
    expect(policy.warnings.filter(({ message }) => !message.endsWith("fine here, but not in Momentum"))).toEqual([]);
    const file = join(scratch, `line-${line}.conf`);
    writeFileSync(file, text);
    expect(String(await loadPolicy(file))).toBe(String(policy));
  });

  it("has no block that is not tested", () => {
    for (const block of blocks) {
      const known = isProgram(block) || isPicture(block) || ["conf", "traffic", "yaml", "sh"].includes(block.language);
      expect(known, `the block at line ${block.line}: \`\`\`${block.language}`).toBe(true);
    }
    // A fence that is indented or never closed would not be among them.
    const outputs = programs.filter(({ output }) => output !== "").length;
    expect(README.match(/^ *(?:```|~~~)/gm)).toHaveLength(2 * (blocks.length + outputs));
  });

  it("shows traffic that the simulator reads", () => {
    const text = blocks.find(({ language }) => language === "traffic")?.text ?? "";
    const { flows } = parseTraffic(
      text,
      "README.md",
      policies.map(({ text }) => parsePolicy(text)),
    );
    expect(flows).toHaveLength(3);
  });

  it("names commands that exist, among them the two that do all the set-up", () => {
    for (const [, script = ""] of README.matchAll(/npm run ([\w:]+)/g)) expect(manifest.scripts).toHaveProperty(script);
    const lines = blocks.filter(({ language }) => language === "sh").flatMap(({ text }) => text.trim().split("\n"));
    for (const line of lines.filter((line) => line !== `npm install ${manifest.name}`)) {
      const [program, name, ...args] = line.replace(/ #.*/, "").trim().split(/ +/);
      expect(program, line).toBe(manifest.name);
      const command = [check, diff, explain, simulate].find((command) => command.name === name);
      expect(command, line).toBeDefined();
      for (const option of args.filter((arg) => arg.startsWith("--"))) expect(command?.help, line).toContain(option);
    }
    expect(lines.length).toBeGreaterThan(4);
    expect(README).toContain("`npm ci && npm run demo`");
    expect(README).toContain("`npm ci && npm test`");
  });

  it("draws the look-up order that the library has", () => {
    const picture = blocks.find(isPicture)?.text ?? "";
    const rows = Array.from(picture.matchAll(/^ *\d {2,}(.*)$/gm), ([, row = ""]) => row.split(/ {2,}/));
    const drawn = [0, 1, 2].map((column) => rows.flatMap((row) => row[column] ?? []));

    const limiter = createLimiter(
      parsePolicy(`
        cluster_max_outbound_connections = 1
        host "h" { max_outbound_connections = 1 }
        binding_group "g" { binding "b" { } }`),
    );
    const { limits } = limiter.explain({ binding: "b", domain: "d", host: "h" });
    const [domain, host] = limits.filter(({ option }) => option === "max_outbound_connections");
    const cluster = limits.find(({ option }) => option === "cluster_max_outbound_connections");
    const asked = [domain, cluster, host].map((limit) =>
      limit?.lookedAt.map(({ scope }) => scope.replace(/ "[^"]*"/g, "")),
    );
    expect(domain).toMatchObject({ limit: 32, setAt: undefined });
    expect(drawn).toEqual([
      [...(asked[0] ?? []), "else 32"],
      [...(asked[1] ?? []), "else unlimited"],
      [...(asked[2] ?? []), "else unlimited"],
    ]);
  });

  it("says where each option is valid, and its default", () => {
    const stanzas = {
      global: (line: string) => line,
      binding_group: (line: string) => `binding_group "g" { ${line} }`,
      binding: (line: string) => `binding "b" { ${line} }`,
      domain: (line: string) => `domain "d" { ${line} }`,
      host: (line: string) => `host "h" { ${line} }`,
    };
    const parses = (text: string): boolean => {
      try {
        return parsePolicy(text) !== undefined;
      } catch {
        return false;
      }
    };
    const table = readTable("option");
    expect(table).toHaveLength(7);
    for (const [option = "", validIn = ""] of table) {
      const places = Object.entries(stanzas).flatMap(([name, write]) => (parses(write(`${option} = 1`)) ? name : []));
      expect(`${option}: ${places.length === 5 ? "everywhere" : places.join(", ")}`).toBe(`${option}: ${validIn}`);
    }

    const defaults = new Map(table.map(([option = "", , value = ""]) => [option, Number(/\d+/.exec(value)?.[0])]));
    const limiter = createLimiter(parsePolicy(""));
    const { limits } = limiter.explain({ binding: "b", domain: "d", host: "h" });
    const limited = limits.map(({ option, limit }): [string, number] => [option, limit]);
    limited.push(["server_reserve_outbound_connections", limiter.snapshot().reserve.limit]);
    expect(Object.fromEntries([...defaults].filter(([, value]) => value >= 0))).toEqual(Object.fromEntries(limited));
  });

  it("lists every class of errors", () => {
    const classes = Object.entries(library).flatMap(([name, value]) =>
      typeof value === "function" && value.prototype instanceof library.LimiterError ? name : [],
    );
    const listed = readTable("class").map(([name]) => name);
    expect(new Set(listed)).toEqual(new Set(classes));
  });
});

describeRedis("README, with a Redis", { timeout: 90_000 }, () => {
  it.each(programs.filter(needsRedis))(
    "the program at line $line runs and prints what stands behind it",
    async (block) => {
      await using server = await openRedis();
      const client = new Redis(server.url);
      onTestFinished(() => client.disconnect());
      // The first on an empty Redis would wait for one ttl.
      const cluster = redisCluster(client, { prefix: "mta", isNew: true, watchdog: false });
      await using others = createLimiter(parsePolicy("cluster_max_outbound_connections = 1"), { cluster });
      await others.run({ domain: "other.example" }, () => {});
      runs(block, { REDIS_URL: server.url });
    },
  );
});
