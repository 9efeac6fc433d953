// The examples in the doc comments, run one after another with what they leave to the reader in place.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "..");
const scratch = mkdtempSync(join(tmpdir(), "outbound-limiter-examples-"));

interface Example {
  readonly file: string;
  readonly line: number;
  readonly text: string;
}

function examples(): Example[] {
  const sources = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".ts"),
  );
  return sources.flatMap((file) => {
    const text = readFileSync(join(ROOT, "src", file), "utf8");
    return Array.from(text.matchAll(/@example\n((?: *\* .*\n)+)/g), ({ 1: lines = "", index }) => ({
      file,
      line: text.slice(0, index).split("\n").length + 1,
      text: lines.replace(/^ *\* ?/gm, ""),
    }));
  });
}

/** What an example takes for granted: a limiter, a target, a socket, a lease, clients, and its own ways to deliver and to defer. */
const PRELUDE = `
import net from "node:net";
import { metrics } from "@opentelemetry/api";
import { Redis } from "ioredis";
import promClient from "prom-client";
import { createLimiter, definePolicy, isLimiterError, loadPolicy, memoryCluster, parsePolicy, releaseOnClose, type Target, watchPolicy } from "./src/index.js";
import { otelMetrics, prometheusMetrics } from "./src/metrics.js";
import { limitedSocket } from "./src/nodemailer.js";
import { redisCluster } from "./src/redis.js";
// Nobody listens there: what an example shows of a cluster needs no engine.
const redis = new Redis(1, "127.0.0.1", { lazyConnect: true, retryStrategy: () => null });
redis.on("error", () => {});
const connection = { quit: () => {} };
const limiter = createLimiter(definePolicy({}));
const target = { domain: "example.com" };
const socket = new net.Socket();
const lease = await limiter.acquire(target);
const message = "a message";
const deliver = async (to: string): Promise<void> => console.log(to);
const defer = (what: string, why: unknown): void => console.log(what, why);
void [limiter, lease, connection, target, socket, message, deliver, defer, definePolicy, isLimiterError, loadPolicy, parsePolicy, createLimiter, releaseOnClose];
let unused: Target | undefined; void unused;
`;

beforeAll(() => {
  symlinkSync(join(ROOT, "src"), join(scratch, "src"), "junction");
  symlinkSync(join(ROOT, "node_modules"), join(scratch, "node_modules"), "junction");
  writeFileSync(join(scratch, "package.json"), '{ "type": "module" }');
  writeFileSync(join(scratch, "limits.conf"), "max_outbound_connections = 20\n");
});

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe("examples in the doc comments", () => {
  it("are there for what a user calls", () => {
    const files = new Set(examples().map(({ file }) => file));
    const expected = [
      "cluster/memory.ts",
      "errors.ts",
      "limiter.ts",
      "metrics.ts",
      "nodemailer.ts",
      "policy/define.ts",
      "policy/load.ts",
      "policy/parse.ts",
      "redis.ts",
      "socket.ts",
      "types.ts",
      "watch.ts",
    ];
    expect([...files].map((file) => file.replaceAll("\\", "/")).sort()).toEqual(expected);
  });

  it("run", { timeout: 60_000 }, () => {
    const program = join(scratch, "examples.ts");
    const blocks = examples().map(({ file, line, text }) => `console.log("${file}:${line}");\n{\n${text}\n}\n`);
    writeFileSync(program, `${PRELUDE}${blocks.join("")}socket.destroy();\nconsole.log("done");\n`);
    const tsx = pathToFileURL(join(ROOT, "node_modules", "tsx", "dist", "esm", "index.mjs")).href;
    const printed = execFileSync(process.execPath, ["--import", tsx, program], { cwd: scratch, encoding: "utf8" });
    expect(printed.split("\n")).toEqual(expect.arrayContaining(examples().map(({ file, line }) => `${file}:${line}`)));
    expect(printed.trimEnd().endsWith("done"), printed).toBe(true);
  });
});
