// demo.test.ts: the demo as its user starts it, with half the mail: what it says and what its exit status means.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const policyFile = join(root, "bench/demo/policy.conf");
// Real servers on a machine that may be busy; how long it takes is no part of the promise.
const patience = 180_000;

async function demo(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const command = ["--import", "tsx", "bench/demo/main.ts", "--scale", "0.5", ...args];
  const child = spawn(process.execPath, command, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  onTestFinished(() => void child.kill());
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  return { status: child.exitCode, stdout, stderr };
}

/** The numbers of one row: limit, then most at once, refusals and connections, each without and with the limiter. */
function row(stdout: string, label: string): number[] {
  const line = stdout.split("\n").find((each) => each.startsWith(label)) ?? "";
  return line.slice(label.length).match(/\d+/g)?.map(Number) ?? [];
}

async function policyWith(find: string, replacement: string): Promise<string> {
  const policy = await readFile(policyFile, "utf8");
  expect(policy).toContain(find);
  const folder = await mkdtemp(join(tmpdir(), "demo-"));
  onTestFinished(async () => rm(folder, { recursive: true }));
  await writeFile(join(folder, "policy.conf"), policy.replace(find, replacement));
  return join(folder, "policy.conf");
}

describe("the demo", { timeout: patience }, () => {
  it("keeps to what the servers accept, which the same mail without the limiter does not", async () => {
    const { status, stdout, stderr } = await demo();
    expect(stderr).not.toContain("Warning");
    expect(stdout).toContain("no server ever counted more than its limit");
    expect(status).toBe(0);

    const [limit, peakWithout, peak, refusedWithout, refused] = row(stdout, "wanadoo.fr + orange.fr, all together");
    expect({ limit, peak, refused }).toEqual({ limit: 3, peak: 3, refused: 0 });
    expect(peakWithout).toBeGreaterThan(3);
    expect(refusedWithout).toBeGreaterThan(0);
    expect(stdout).toContain("policy.conf:9 in domain");
  });

  it("fails when the policy allows more than a server accepts: its servers count for themselves", async () => {
    const raised = await policyWith("scope_max_outbound_connections = 3", "scope_max_outbound_connections = 50");
    const { status, stdout } = await demo("--policy", raised);
    const [limit, , peak, , refused] = row(stdout, "wanadoo.fr + orange.fr, all together");
    expect(limit).toBe(3);
    expect(peak).toBeGreaterThan(3);
    expect(refused).toBeGreaterThan(0);
    expect(stdout).toContain("wanadoo.fr + orange.fr, all together: ");
    expect(status).toBe(1);
  });

  it("fails with the mistake in the policy, before anything is sent", async () => {
    const misspelt = await policyWith("\nmax_outbound_connections", "\nmax_outbund_connections");
    const { status, stdout, stderr } = await demo("--policy", misspelt);
    expect(stderr).toContain("did you mean `max_outbound_connections`?");
    expect(stdout).not.toContain("delivered");
    expect(status).toBe(1);
  });
});
