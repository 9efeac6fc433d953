// demo-cluster.test.ts: the demo with a cluster as its user starts it: real senders, a real Redis, one sender killed.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import { describeServer } from "./redis/server.js";

const root = fileURLToPath(new URL("..", import.meta.url));
// Six processes on a machine that may be busy; how long that takes is no part of the promise.
const patience = 180_000;

async function demo(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const command = ["--import", "tsx", "bench/demo/main.ts", "--cluster", ...args];
  const child = spawn(process.execPath, command, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill());
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  return { status: child.exitCode, stdout, stderr };
}

/** The numbers of one row: limit, then most at once before the kill and after it, refusals and connections. */
function row(stdout: string, label: string): number[] {
  const line = stdout.split("\n").find((each) => each.startsWith(label)) ?? "";
  return line.slice(label.length).match(/\d+/g)?.map(Number) ?? [];
}

async function folder(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), "demo-cluster-"));
  onTestFinished(async () => rm(made, { recursive: true }));
  return made;
}

describeServer("the demo with a cluster", { timeout: patience }, () => {
  it("keeps to what the servers accept from all senders, and uses the slots of a killed one again", async () => {
    const { status, stdout, stderr } = await demo([]);
    expect(stderr).toBe("");
    expect(stdout).toContain("No server ever counted more than its limit");
    expect(stdout).toMatch(/sender 4 killed with -9: it held [1-9]\d* of the 20 slots/);
    expect(stdout).toMatch(/Its slots were in use again after \d+\.\d s/);
    expect(status).toBe(0);

    const [limit, before, after, refused] = row(stdout, "everything together");
    expect({ limit, before, after, refused }).toEqual({ limit: 20, before: 20, after: 20, refused: 0 });
    const [scopeLimit, scopeBefore, , scopeRefused] = row(stdout, "wanadoo.fr + orange.fr, all together");
    expect({ scopeLimit, scopeBefore, scopeRefused }).toEqual({ scopeLimit: 3, scopeBefore: 3, scopeRefused: 0 });
    expect(stdout).toContain("cluster.conf:7 in domain");
  });

  it("fails when the policy allows more than a server accepts: its servers count for themselves", async () => {
    const policy = await readFile(join(root, "bench/demo/cluster.conf"), "utf8");
    const raised = policy.replace("cluster_scope_max_outbound_connections = 3", "scope_max_outbound_connections = 3");
    expect(raised).not.toBe(policy);
    const file = join(await folder(), "cluster.conf");
    await writeFile(file, raised); // 3 for each sender
    const { status, stdout } = await demo(["--policy", file]);
    const [limit, before, , refused] = row(stdout, "wanadoo.fr + orange.fr, all together");
    expect(limit).toBe(3);
    expect(before).toBeGreaterThan(3);
    expect(refused).toBeGreaterThan(0);
    expect(stdout).toContain("wanadoo.fr + orange.fr, all together: ");
    expect(status).toBe(1);
  });
});

describe("the demo with a cluster, without a server in PATH", () => {
  it("says what it needs", async () => {
    const { status, stderr } = await demo([], { PATH: await folder() });
    expect(stderr).toContain("needs redis-server (7 or newer) or valkey-server in PATH");
    expect(status).toBe(1);
  });
});
