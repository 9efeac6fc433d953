// The same mail through real SMTP servers and through the simulator: the same limits are full, the same domains wait.

import { setMaxListeners } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { startReceivers } from "../../bench/demo/receivers.js";
import { type Gate, limited, send } from "../../bench/demo/sender.js";
import { makeTraffic } from "../../bench/demo/traffic.js";
import { createLimiter, loadPolicy, type Target } from "../../src/index.js";
import { simulate } from "../../src/simulate/run.js";
import { parseTraffic } from "../../src/simulate/traffic.js";

/** One connection as it really went, in milliseconds. */
interface Connection {
  readonly target: Target;
  readonly asked: number;
  readonly waited: number;
  held: number;
}

/** Adds up the numbers of each name. */
function sums(numbers: Iterable<readonly [name: string, number: number]>): Map<string, number> {
  const all = new Map<string, number>();
  for (const [name, number] of numbers) all.set(name, (all.get(name) ?? 0) + number);
  return all;
}

/** Spearman's: 1 for the same order, 0 for no relation, -1 for the opposite order. */
function rankCorrelation(pairs: readonly (readonly [number, number])[]): number {
  const [a, b] = [0, 1].map((side) => {
    const sorted = pairs.map((pair) => pair[side] ?? 0).sort((x, y) => x - y);
    // Equal values share the mean of their places.
    return pairs.map((pair) => (sorted.indexOf(pair[side] ?? 0) + sorted.lastIndexOf(pair[side] ?? 0)) / 2);
  }) as [number[], number[]];
  const middle = (pairs.length - 1) / 2;
  const product = (x: number[], y: number[]): number =>
    x.reduce((sum, place, index) => sum + (place - middle) * ((y[index] ?? 0) - middle), 0);
  return product(a, b) / Math.sqrt(product(a, a) * product(b, b));
}

// How long a session takes on a busy machine is measured and played again, so the comparison does not depend on it.
it("fills the limits that the real run fills, and makes the same domains wait", { timeout: 180_000 }, async () => {
  const policy = await loadPolicy(fileURLToPath(new URL("../../bench/demo/policy.conf", import.meta.url)));
  const limiter = createLimiter(policy);
  const receivers = await startReceivers();
  const { signal } = new AbortController();
  setMaxListeners(0, signal);
  const open = limited(limiter, signal);
  const real: Connection[] = [];
  const gate: Gate = async (target) => {
    const asked = performance.now();
    const release = await open(target);
    const admitted = performance.now();
    const connection = { target, asked, waited: admitted - asked, held: 0 };
    real.push(connection);
    return () => {
      connection.held = performance.now() - admitted;
      release();
    };
  };
  const progress = { delivered: 0, deferred: 0, open: 0, waiting: 0 };
  try {
    await send(makeTraffic(0.5), receivers, gate, progress, signal);
  } finally {
    await receivers.close();
  }

  // What the real run leaves behind is a log without the waits: those the simulator has to find out.
  const log = real
    .sort((a, b) => a.asked - b.asked)
    .map(({ target: { domain, binding, host }, asked, held }) => {
      const start = asked - (real[0]?.asked ?? 0);
      return `${domain} binding=${binding} host=${host} start=${start.toFixed(3)}ms duration=${held.toFixed(3)}ms\n`;
    });
  const traffic = parseTraffic(log.join(""), "log.txt", [policy]);
  const run = await simulate(policy, traffic, { seed: 1, end: Infinity, timeout: Infinity, maxWaiting: 100_000 });

  const peaks = new Map(run.tallies.map(({ key, peak }) => [key, peak]));
  // The most in any one count that a site keeps; what the site counts is one of our limits, or the server's and its reserve.
  const compared = receivers.tallies
    .filter(({ peak, limit, label }) => peak === limit && !label.startsWith("each small"))
    .map(({ label, peak, limit, from, example }) => {
      const limits = from.flatMap((binding) => limiter.explain({ ...example, binding }).limits);
      const same = limits.filter((one) => one.limit === limit || (limit === 48 && one.option.startsWith("server_max")));
      return [label, peak, Math.max(...same.map(({ key }) => peaks.get(key) ?? 0))];
    });
  expect(compared.map(([label]) => label)).toContain("wanadoo.fr + orange.fr, all together");
  for (const [label, peak, simulated] of compared) expect(simulated, String(label)).toBe(peak);

  const byName = sums(real.map(({ target, waited }) => [target.domain, waited]));
  const simulated = sums(run.accounts.map(({ target, waits }) => [target.domain, waits.total]));
  expect([...simulated.keys()].sort()).toEqual([...byName.keys()].sort());
  const counts = sums(real.map(({ target }) => [target.domain, 1]));
  // A few milliseconds are the machine's, not the line's: they are no order.
  const mean = (waited: number | undefined, count: number): number => Math.round((waited ?? 0) / count / 20);
  const means = [...counts].map(
    ([name, count]) => [mean(byName.get(name), count), mean(simulated.get(name), count)] as const,
  );
  expect(rankCorrelation(means)).toBeGreaterThan(0.8);
});
