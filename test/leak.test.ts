// DEBUG=outbound-limiter:leak in a process of its own: a lease that was lost without a release is named with its caller.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const PROGRAM = `
import { createLimiter, parsePolicy } from ${JSON.stringify(join(import.meta.dirname, "../src/index.ts"))};
const limiter = createLimiter(parsePolicy("max_outbound_connections = 100"));
async function forgetful() { await limiter.acquire({ domain: "leaky.example" }); }
function hasty() { limiter.tryAcquire({ domain: "hasty.example" }); }
async function careful() { (await limiter.acquire({ domain: "careful.example" })).release(); }
const kept = [];
async function patient() { kept.push((await limiter.acquire({ domain: "patient.example" })).release); }
for (let i = 0; i < 3; i++) { await forgetful(); hasty(); await careful(); await patient(); }
for (let i = 0; i < 20; i++) { globalThis.gc(); await new Promise((resolve) => setTimeout(resolve, 10)); }
for (const release of kept) release();
console.log(JSON.stringify(limiter.snapshot().leases));
`;

function run(DEBUG: string): { readonly stdout: string; readonly stderr: string } {
  const options = ["--expose-gc", "--import", "tsx", "--input-type=module", "--eval", PROGRAM];
  const env = { ...process.env, DEBUG, DEBUG_COLORS: "no" };
  return spawnSync(process.execPath, options, { env, encoding: "utf8", cwd: join(import.meta.dirname, "..") });
}

describe("DEBUG=outbound-limiter:leak", { timeout: 60_000 }, () => {
  it("names where a lease was acquired that nobody can release any more", () => {
    const { stdout, stderr } = run("outbound-limiter:leak");
    expect(stderr.match(/a lease for leaky\.example was never released/g)).toHaveLength(3);
    expect(stderr.match(/a lease for hasty\.example was never released/g)).toHaveLength(3);
    expect(stderr).toMatch(/leaky\.example.*\n +at forgetful /);
    expect(stderr).toMatch(/hasty\.example.*\n +at hasty /);
    expect(stderr).not.toMatch(/careful|patient/);
    // It says so; it gives nothing back: the connection may still be open.
    expect(stdout).toBe("6\n");
  });

  it("says nothing when it is not asked to", () => {
    expect(run("")).toMatchObject({ stdout: "6\n", stderr: "" });
  });
});
