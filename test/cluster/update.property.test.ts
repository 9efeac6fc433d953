// Policies change under a cluster, in each process when it likes: what the engine has of a process is what that process uses,
// and who waits gets on.
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { makeCluster } from "../../src/cluster/cluster.js";
import { Ledger } from "../../src/cluster/ledger.js";
import { createLimiter, type Lease, type Limiter, parsePolicy } from "../../src/index.js";

const POLICIES = [
  "cluster_max_outbound_connections = 2",
  'cluster_max_outbound_connections = 1 domain "a" { cluster_max_outbound_connections = 3 }',
  "cluster_server_max_outbound_connections = 3",
  'domain "/^[ab]$/" { cluster_scope_max_outbound_connections = 2 } cluster_server_max_outbound_connections = 4',
  "max_outbound_connections = 2",
].map((text) => parsePolicy(text));
const PROCESSES = 3;
const runs = Math.max(30, Number(process.env["FUZZ_RUNS"] ?? 0) / 10);

type Command =
  | { readonly do: "acquire"; readonly process: number; readonly domain: string }
  | { readonly do: "release"; readonly which: number }
  | { readonly do: "update"; readonly process: number; readonly policy: number }
  | { readonly do: "turn"; readonly times: number }
  | { readonly do: "wait" };

const processes = fc.nat(PROCESSES - 1);
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant("acquire"), process: processes, domain: fc.constantFrom("a", "b", "c") }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("release"), which: fc.nat() }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("update"), process: processes, policy: fc.nat(POLICIES.length - 1) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("turn"), times: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("wait") }) },
);

/** Everything that is under way between the processes and the engine has come to an end. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 30; turns++) await turn();
}

/** By counter, what a process has open under the limits of the cluster. */
function usedBy(limiter: Limiter): Map<string, number> {
  const used = new Map<string, number>();
  for (const { key, here = 0 } of limiter.snapshot().counters) {
    if (key.startsWith("cluster_") && here > 0) used.set(key, here);
  }
  return used;
}

async function play(commands: readonly Command[], ttl: number): Promise<void> {
  const ledger = new Ledger({ ttl, now: () => 0 });
  const limiters = Array.from({ length: PROCESSES }, () => {
    return createLimiter(POLICIES[0]!, {
      cluster: makeCluster("test", ledger, { whenDown: "refuse", watchdog: false }),
    });
  });
  const leases: Lease[] = [];
  const failed: unknown[] = [];
  const held = async (): Promise<ReadonlyMap<string, number>[]> => {
    await settled();
    // In the order of their labels they cannot be told apart, but each says all of its own.
    return (await ledger.members()).map(({ holds }) => holds);
  };
  const sorted = (holds: readonly ReadonlyMap<string, number>[]): string[] =>
    holds
      .map((one) =>
        [...one]
          .map(([key, slots]) => `${key}: ${slots}`)
          .sort()
          .join(),
      )
      .sort();

  for (const one of commands) {
    if (one.do === "acquire") {
      const asked = limiters[one.process]!.acquire({ domain: one.domain });
      asked.then(
        (lease) => leases.push(lease),
        (error: unknown) => failed.push(error),
      );
    } else if (one.do === "release") leases.splice(one.which % Math.max(1, leases.length), 1)[0]?.release();
    else if (one.do === "update") limiters[one.process]!.update(POLICIES[one.policy]!);
    else if (one.do === "turn") {
      // Something may stay under way.
      for (let times = 0; times < one.times; times++) await Promise.resolve();
    } else {
      const holds = await held();
      const used = limiters.map(usedBy);
      if (ttl === Number.POSITIVE_INFINITY) expect(sorted(holds)).toEqual(sorted(used));
      // Spare slots are kept there.
      else
        for (const one of used)
          expect(holds.some((other) => [...one].every(([key, n]) => (other.get(key) ?? 0) >= n))).toBe(true);
    }
  }

  // Under one policy, everybody who waits comes to his turn.
  for (const limiter of limiters) limiter.update(POLICIES[1]!);
  for (let rounds = 0; rounds < 200; rounds++) {
    await settled();
    if (leases.length === 0) break;
    leases.shift()?.release();
  }
  await settled();
  expect(failed).toEqual([]);
  expect(limiters.map((limiter) => [limiter.snapshot().leases, limiter.snapshot().waiting])).toEqual(
    limiters.map(() => [0, 0]),
  );
  if (ttl === Number.POSITIVE_INFINITY) expect(sorted(await held())).toEqual(limiters.map(() => ""));
  // Nothing of a limit that there is no more.
  for (const holds of await held()) {
    for (const key of holds.keys()) expect(key).toMatch(/^cluster_max_outbound_connections/);
  }
  for (const limiter of limiters) await limiter.close();
}

describe("a policy that changes under a cluster", () => {
  it.each([
    ["within one process, where nothing is spare", Number.POSITIVE_INFINITY],
    ["between processes, which keep spare slots", 60_000],
  ])(
    "leaves the engine with what is used: %s",
    async (_, ttl) => {
      await fc.assert(
        fc.asyncProperty(fc.array(command, { minLength: 5, maxLength: 40 }), async (commands) => play(commands, ttl)),
        { numRuns: runs },
      );
    },
    600_000,
  );
});
