// What a cluster promises, whatever its engine is: run for each of them.

import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import {
  type Cluster,
  createLimiter,
  definePolicy,
  type Lease,
  type Limiter,
  type LimiterOptions,
  type PolicyInput,
} from "../../src/index.js";

/** One cluster for each of so many limiters: they share what they stand for, and nothing else. */
export interface Engine {
  clusters(count: number): Promise<readonly Cluster[]>;
}

interface Fleet extends AsyncDisposable {
  readonly limiters: readonly Limiter[];
}

const GMAIL = { domain: "gmail.com" };
const ORANGE = { domain: "orange.fr" };

/** Polls: what happens between processes has no other sign. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 2_000; tries++) {
    if (await holds()) return;
    await sleep(5);
  }
  throw new Error("It did not come to that within 10 s");
}

async function hasSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const settle = (): void => {
    settled = true;
  };
  promise.then(settle, settle);
  await sleep(50);
  return settled;
}

export function describeContract(name: string, engine: () => Engine): void {
  describe(`the contract of a cluster, ${name}`, () => {
    const fleets: Fleet[] = [];
    afterEach(async () => {
      for (const fleet of fleets.splice(0)) await fleet[Symbol.asyncDispose]();
    });

    async function fleet(
      count: number,
      policy: PolicyInput,
      options: LimiterOptions = {},
    ): Promise<readonly Limiter[]> {
      const clusters = await engine().clusters(count);
      const limiters = clusters.map((cluster) => createLimiter(definePolicy(policy), { ...options, cluster }));
      fleets.push({
        limiters,
        async [Symbol.asyncDispose]() {
          await Promise.all(limiters.map((limiter) => limiter.close({ timeout: 0 })));
          for (const limiter of limiters) for (const lease of held.get(limiter) ?? []) lease.release();
          await Promise.all(limiters.map((limiter) => limiter.close()));
        },
      });
      return limiters;
    }
    const held = new WeakMap<Limiter, Set<Lease>>();

    async function take(limiter: Limiter, target = GMAIL, options = {}): Promise<Lease> {
      const lease = await limiter.acquire(target, options);
      const all = held.get(limiter) ?? new Set();
      held.set(limiter, all.add(lease));
      return lease;
    }

    it("counts the connections of all its limiters together", async () => {
      const [a, b] = (await fleet(2, { cluster_server_max_outbound_connections: 2 })) as [Limiter, Limiter];
      const first = await take(a);
      await take(b, ORANGE);
      const third = take(b);
      expect(await hasSettled(third)).toBe(false);
      first.release();
      expect((await third).waited).toBeGreaterThan(0);
    });

    it("leaves the limits of one process to that process", async () => {
      const [a, b] = (await fleet(2, {
        max_outbound_connections: 1,
        cluster_server_max_outbound_connections: 10,
      })) as [Limiter, Limiter];
      await take(a);
      await take(b);
      await expect(take(a, GMAIL, { timeout: 0 })).rejects.toMatchObject({ code: "ERR_LIMITER_TIMEOUT" });
    });

    it("takes local and cluster slots together or not at all", async () => {
      const [a, b] = (await fleet(2, {
        domain: { "gmail.com": { max_outbound_connections: 1 } },
        cluster_server_max_outbound_connections: 3,
      })) as [Limiter, Limiter];
      const local = await take(a);
      const waiting = take(a);
      await take(b, ORANGE);
      // The one that waits for its own process holds nothing of the cluster's last slot.
      const last = await take(b, { domain: "free.fr" }, { timeout: 10_000 });
      local.release();
      expect(await hasSettled(waiting)).toBe(true);
      last.release();
    });

    it("with timeout 0 asks the engine once", async () => {
      const [a, b] = (await fleet(2, { cluster_server_max_outbound_connections: 1 })) as [Limiter, Limiter];
      const only = await take(a, GMAIL, { timeout: 10_000 });
      const refused = await take(b, GMAIL, { timeout: 0 }).catch((error: unknown) => error);
      expect(refused).toMatchObject({
        code: "ERR_LIMITER_TIMEOUT",
        blockedBy: [{ option: "cluster_server_max_outbound_connections", inUse: 1, limit: 1, reach: "cluster" }],
      });
      only.release();
      await until(async () => {
        const got = await take(b, GMAIL, { timeout: 0 }).catch(() => undefined);
        return got !== undefined;
      });
    });

    it("gives the slots of a limiter that is closed to the others", async () => {
      const [a, b] = (await fleet(2, { cluster_server_max_outbound_connections: 1 })) as [Limiter, Limiter];
      const lease = await take(a);
      const next = take(b);
      const closing = a.close();
      expect(await hasSettled(next)).toBe(false);
      lease.release();
      await closing;
      await next;
    });

    it("serves limiters in turn, however many wait in one of them", async () => {
      const [a, b] = (await fleet(2, { cluster_server_max_outbound_connections: 1 })) as [Limiter, Limiter];
      const order: string[] = [];
      const held = await take(a);
      const pass = async (who: string, limiter: Limiter): Promise<void> => {
        const lease = await limiter.acquire(GMAIL);
        order.push(who);
        lease.release();
      };
      const flood = Array.from({ length: 50 }, () => pass("flood", a));
      await sleep(50);
      const single = pass("single", b);
      // It was told that the slot is taken; so the other is told, too, that somebody waits.
      await until(() => b.snapshot().counters.some(({ inUse, limit }) => limit === 1 && inUse === 1));
      await sleep(500);
      held.release();
      await Promise.all([...flood, single]);
      expect(order.indexOf("single")).toBeLessThan(5);
    });

    it("loses no slot when a request that asked is aborted", async () => {
      const [a, b] = (await fleet(2, { cluster_server_max_outbound_connections: 1 })) as [Limiter, Limiter];
      for (let round = 0; round < 20; round++) {
        const lease = await take(a);
        const gone = new AbortController();
        const waiting = b.acquire(ORANGE, { signal: gone.signal });
        if (round % 2 === 0) await sleep(round);
        lease.release();
        await nextTurn();
        gone.abort(new Error("gone"));
        await waiting.then(
          (late) => late.release(),
          (error: Error) => expect(error.message).toBe("gone"),
        );
      }
      (await take(a, GMAIL, { timeout: 10_000 })).release();
      (await take(b, GMAIL, { timeout: 10_000 })).release();
    });

    it("lets two requests that need each other's counters both go", async () => {
      const policy = {
        domain: {
          "gmail.com": { cluster_max_outbound_connections: 1 },
          "/./": { cluster_scope_max_outbound_connections: 2 },
        },
        cluster_server_max_outbound_connections: 2,
      };
      const [a, b] = (await fleet(2, policy)) as [Limiter, Limiter];
      const churn = async (limiter: Limiter, domains: readonly string[]): Promise<number> => {
        let done = 0;
        for (let i = 0; i < 40; i++) {
          const leases = await Promise.all(
            domains.map(async (domain) => {
              const lease = await limiter.acquire({ domain }, { timeout: 10_000 });
              await nextTurn();
              lease.release();
            }),
          );
          done += leases.length;
        }
        return done;
      };
      const done = await Promise.all([churn(a, ["gmail.com", "orange.fr"]), churn(b, ["orange.fr", "gmail.com"])]);
      expect(done).toEqual([80, 80]);
    });

    it("never gives more than a limit, and in the end gives everybody a slot", async () => {
      const limit = 3;
      const limiters = await fleet(4, {
        cluster_server_max_outbound_connections: limit,
        domain: { "gmail.com": { cluster_scope_max_outbound_connections: 2 } },
      });
      let open = 0;
      let gmail = 0;
      const peaks = { open: 0, gmail: 0 };
      const work = limiters.flatMap((limiter, at) =>
        Array.from({ length: 25 }, async (_, i) => {
          const target = (at + i) % 3 === 0 ? ORANGE : GMAIL;
          const lease = await limiter.acquire(target, { timeout: 20_000 });
          open++;
          if (target === GMAIL) gmail++;
          peaks.open = Math.max(peaks.open, open);
          peaks.gmail = Math.max(peaks.gmail, gmail);
          if (i % 3 === 0) await sleep(i % 7);
          open--;
          if (target === GMAIL) gmail--;
          lease.release();
        }),
      );
      await Promise.all(work);
      expect(peaks).toEqual({ open: limit, gmail: 2 });
      expect(limiters.map((limiter) => limiter.snapshot().leases)).toEqual([0, 0, 0, 0]);
    });

    it("shows what others hold in explain and snapshot, as last told", async () => {
      const [a, b] = (await fleet(2, { cluster_server_max_outbound_connections: 2 })) as [Limiter, Limiter];
      await take(a);
      await take(b);
      const waiting = take(b);
      await until(() => b.snapshot().counters.some(({ inUse, limit }) => inUse === 2 && limit === 2));
      const shown = b.explain(GMAIL);
      expect(shown.verdict).toBe("wait");
      expect(shown.limits.find(({ reach }) => reach === "cluster")).toMatchObject({ inUse: 2, limit: 2, waiting: 1 });
      expect(await hasSettled(waiting)).toBe(false);
      const over = waiting.catch((error: unknown) => error);
      await b.close({ timeout: 0 });
      expect(await over).toMatchObject({ code: "ERR_LIMITER_CLOSED" });
    });

    it("keeps what is held, and counts it by the new limits, when the policy changes", async () => {
      const [a, b] = (await fleet(2, { cluster_server_max_outbound_connections: 3 })) as [Limiter, Limiter];
      const leases = [await take(a), await take(a), await take(a)];
      const lower = definePolicy({ cluster_server_max_outbound_connections: 1 });
      a.update(lower);
      b.update(lower);
      const next = take(b);
      leases[0]?.release();
      leases[1]?.release();
      expect(await hasSettled(next)).toBe(false);
      leases[2]?.release();
      await next;
    });

    it("lets in who waits when a limit is raised", async () => {
      const [a, b] = (await fleet(2, { cluster_server_max_outbound_connections: 1 })) as [Limiter, Limiter];
      await take(a);
      const next = take(b);
      expect(await hasSettled(next)).toBe(false);
      b.update(definePolicy({ cluster_server_max_outbound_connections: 2 }));
      await next;
    });

    it("tells who takes part, and what each holds", async () => {
      const [a, b] = (await fleet(2, { cluster_server_max_outbound_connections: 5 })) as [Limiter, Limiter];
      await take(a);
      await take(b);
      await take(b);
      const [cluster] = await engine().clusters(1);
      const members = await cluster?.members();
      const key = a.snapshot().counters.find(({ limit }) => limit === 5)?.key as string;
      const held = members?.map(({ holds }) => holds[key] ?? 0) ?? [];
      expect(held.length).toBe(2);
      expect(held.reduce((sum, slots) => sum + slots, 0)).toBeGreaterThanOrEqual(3);
    });
  });
}
