// outbound-limiter explain: the limiter's own answer, for a policy in a file.

import { describe, expect, it } from "vitest";
import { createLimiter, type Explanation, parsePolicy, type Target } from "../../src/index.js";
import { builtCommand } from "./built.js";

const command = builtCommand();

const LIMITS = String.raw`max_outbound_connections = 20
server_max_outbound_connections = 2000

domain "/^(wanadoo|orange)\.fr$/" {
  scope_max_outbound_connections = 3
}

host "mx.hosting.example" {
  max_outbound_connections = 10
}

binding_group "bulk" {
  max_outbound_connections = 5
  binding "bulk-1" {
  }
}
`;

/** What a limiter in a program says. */
const said = (target: Target): Explanation =>
  createLimiter(parsePolicy(LIMITS, { source: "limits.conf" })).explain(target);

async function explained(...args: string[]) {
  command.write("limits.conf", LIMITS);
  return command.run(["explain", "limits.conf", ...args]);
}

describe("outbound-limiter explain", () => {
  it.each<[string[], Target]>([
    [["--domain", "gmail.com"], { domain: "gmail.com" }],
    [["--domain=orange.fr", "--binding", "bulk-1"], { domain: "orange.fr", binding: "bulk-1" }],
    [["--domain", "a.example", "--host", "mx.hosting.example"], { domain: "a.example", host: "mx.hosting.example" }],
    [
      ["--group", "bulk", "--binding", "new", "--domain", "gmail.com"],
      { domain: "gmail.com", binding: "new", bindingGroup: "bulk" },
    ],
    [["--domain", "[192.0.2.1]"], { domain: "[192.0.2.1]" }],
  ])("%j: what the limiter says", async (args, target) => {
    expect(await explained(...args)).toEqual({ status: 0, stdout: `${String(said(target))}\n`, stderr: "" });
  });

  it("says which limits hold, where each was written, and what it comes before", async () => {
    const { stdout } = await explained("--domain", "orange.fr", "--binding", "bulk-1");
    expect(stdout).toMatch(/^orange\.fr via bulk-1 \(group bulk\)/);
    expect(stdout).toContain('set at limits.conf:5:3 in domain "/^(wanadoo|orange)\\.fr$/"');
    expect(stdout).toContain('set at limits.conf:13:3 in binding_group "bulk"; it comes before global (20)');
  });

  it("--json: the explanation as data, with null for what is not set", async () => {
    const { status, stdout } = await explained("--json", "--domain", "orange.fr", "--binding", "bulk-1");
    expect(status).toBe(0);
    const data = JSON.parse(stdout);
    const limits = said({ domain: "orange.fr", binding: "bulk-1" }).limits.map((limit) => ({
      ...limit,
      setAt: limit.setAt ?? null,
      lookedAt: limit.lookedAt.map((looked) => ({ ...looked, limit: looked.limit ?? null })),
    }));
    expect(data).toEqual({
      target: { domain: "orange.fr", binding: "bulk-1", bindingGroup: null, host: null },
      verdict: "go",
      limits,
    });
    expect(data.limits[0].lookedAt).toContainEqual({ scope: "global", limit: 20 });
  });

  it("reads the standard input for -, and a whole ecelerity.conf with --ignore-unknown", async () => {
    const args = ["explain", "-", "--domain", "gmail.com"];
    expect((await command.run(args, "max_outbound_connections = 7")).stdout).toContain("set at <stdin>:1:1 in global");
    const whole = ["explain", "ecelerity.conf", "--domain", "orange.fr"];
    expect(await command.run(whole)).toMatchObject({ status: 2, stdout: "" });
    expect((await command.run([...whole, "--ignore-unknown"])).stdout).toContain("set at ecelerity.conf:112:3");
  });

  it("a limit of 0 would make everyone wait", async () => {
    const { status, stdout } = await command.run(["explain", "-", "--domain", "d"], "max_outbound_connections = 0");
    expect(status).toBe(0);
    expect(stdout).toMatch(/^d via default: would wait\n\n {2}FULL {2}0\/0 /);
  });

  it.each([
    [["--domain", "a..b"], 'Target domain "a..b" has an empty label'],
    [["--domain", "d", "--binding", "a b"], 'Target binding "a b" holds white space or a control character'],
    [["--domain", "d", "--binding", "bulk-1", "--group", "x"], 'Target bindingGroup "x" contradicts the policy'],
    [[], "--domain DOMAIN is missing"],
  ])("%j makes no sense", async (args, message) => {
    const { status, stdout, stderr } = await explained(...args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr.startsWith(`outbound-limiter explain: ${message}`), stderr).toBe(true);
  });

  it("a policy with mistakes has no answer, but says them", async () => {
    const { status, stdout, stderr } = await command.run(
      ["explain", "-", "--domain", "d"],
      "max_outbound_conections = 3",
    );
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toMatch(/^<stdin>:1:1: unknown option `max_outbound_conections`\n\n {2}1 \| /);
  });

  it("a policy that is not there is trouble", async () => {
    expect(await command.run(["explain", "gone.conf", "--domain", "d"])).toEqual({
      status: 2,
      stdout: "",
      stderr: "outbound-limiter explain: gone.conf: cannot read the policy: no such file or folder\n",
    });
  });
});
