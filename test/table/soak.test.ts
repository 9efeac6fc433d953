// Random traffic on real timers: many targets, aborts, timeouts, policies that change. At the end nothing is left, and
// memory did not grow. Ten seconds; SOAK_SECONDS=600 makes it ten minutes.
import { getEventListeners } from "node:events";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { createLimiter, isLimiterError, type Lease, parsePolicy, type Target } from "../../src/index.js";
import { turn } from "./open.js";

const SECONDS = Number(process.env["SOAK_SECONDS"] ?? 10);
/** Requests and releases between two looks at the event loop. */
const BURST = 200;

const policies = [1, 2, 3].map((tight) =>
  parsePolicy(`
    server_max_outbound_connections = ${String(40 * tight)}
    server_reserve_outbound_connections = ${String(5 * tight)}
    max_outbound_connections = ${String(2 * tight)}
    domain "/^(wanadoo|orange)\\.fr$/" { scope_max_outbound_connections = ${String(tight)} }
    host "mx.shared.example" { max_outbound_connections = ${String(tight)} }
    binding_group "bulk" { binding "b" { server_max_outbound_connections = ${String(10 * tight)} } }
  `),
);
const policyAt = (index: number): (typeof policies)[number] =>
  policies[index % policies.length] as (typeof policies)[0];

/** The same numbers in every run. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

async function heap(): Promise<number> {
  await turn();
  collect();
  return process.memoryUsage().heapUsed;
}

describe("a limiter under random traffic", () => {
  it("holds every limit, and leaves nothing behind", { timeout: 60_000 + SECONDS * 5_000 }, async () => {
    const random = seeded(1);
    const limiter = createLimiter(policyAt(0), { matchCacheSize: 500, maxWaiting: 2_000 });
    const shared = new AbortController();
    const held: Lease[] = [];
    const outcomes = new Map<string, number>();
    const count = (what: string): void => void outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
    const nameOf = (error: unknown): string => (isLimiterError(error) ? error.code : "aborted");
    let pending = 0;

    const target = (): Target => ({
      binding: random() < 0.3 ? "b" : `binding-${String(Math.floor(random() * 5))}`,
      domain:
        random() < 0.4
          ? (["orange.fr", "wanadoo.fr", "gmail.com"][Math.floor(random() * 3)] as string)
          : `name-${String(Math.floor(random() * 20_000))}.example`,
      host: random() < 0.3 ? "mx.shared.example" : undefined,
    });
    const release = (): void => {
      if (held.length === 0) return;
      const [lease] = held.splice(Math.floor(random() * held.length), 1);
      lease?.release();
    };
    const ask = (): void => {
      const own = random() < 0.2 ? new AbortController() : undefined;
      const signal = own?.signal ?? (random() < 0.3 ? shared.signal : undefined);
      const timeout = random() < 0.5 ? Math.floor(random() * 50) : undefined;
      pending++;
      limiter.acquire(target(), { signal, timeout }).then(
        (lease) => {
          pending--;
          count("granted");
          held.push(lease);
        },
        (error: unknown) => {
          pending--;
          count(nameOf(error));
        },
      );
      if (own !== undefined && random() < 0.7) setTimeout(() => own.abort(), random() * 30);
    };

    const heaps: number[] = [];
    const end = performance.now() + SECONDS * 1000;
    for (let round = 0; performance.now() < end; round++) {
      for (let step = 0; step < BURST; step++) {
        if (random() < 0.5) ask();
        else release();
      }
      // What a lowered limit left over it is given back first.
      if (round % 20 === 0) while (held.length > 0) release();
      if (round % 20 === 19) {
        limiter.update(policyAt(Math.floor(random() * 3)));
        count("updated");
      }
      await turn();
      const { leases, counters } = limiter.snapshot();
      expect(leases).toBe(held.length);
      // The reserve lets through more than the server's own limit.
      const over = counters.filter(({ key, inUse, limit }) => inUse > limit && !key.endsWith("@ global"));
      if (round % 20 < 19) expect(over).toEqual([]);
      if (round % 50 === 0) heaps.push(await heap());
    }

    const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
    while (pending > 0) {
      while (held.length > 0) release();
      await turn();
    }
    while (held.length > 0) release();
    expect(limiter.snapshot()).toMatchObject({ leases: 0, waiting: 0, reserve: { inUse: 0 }, counters: [] });
    expect(getEventListeners(shared.signal, "abort")).toEqual([]);
    // What the test itself armed for its aborts is over by then.
    await new Promise((resolve) => setTimeout(resolve, 100));
    const before = timers();
    const last = limiter.tryAcquire({ domain: "example.com" });
    expect(timers()).toBe(before);
    last?.release();
    await limiter.close();

    for (const what of ["granted", "ERR_LIMITER_TIMEOUT", "aborted", "updated"]) {
      expect(outcomes.get(what), what).toBeGreaterThan(0);
    }
    // The first fifth fills the caches.
    const settled = heaps.slice(Math.floor(heaps.length / 5));
    const half = Math.floor(settled.length / 2);
    const median = (of: readonly number[]): number => [...of].sort((a, b) => a - b)[Math.floor(of.length / 2)] ?? 0;
    if (half >= 3) expect(median(settled.slice(half))).toBeLessThan(median(settled.slice(0, half)) * 1.25 + 4e6);
  });
});
