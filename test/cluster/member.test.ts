// What a limiter does when the engine of its cluster fails: a ledger behind a line that can be cut.
import { setTimeout as sleep } from "node:timers/promises";
import promClient from "prom-client";
import { afterEach, describe, expect, it } from "vitest";
import { makeCluster, type WhenDown } from "../../src/cluster/cluster.js";
import type { Engine, MemberInfo, Push, Reply, Statement } from "../../src/cluster/engine.js";
import { Ledger } from "../../src/cluster/ledger.js";
import { createLimiter, definePolicy, type Lease, type Limiter, type Observer } from "../../src/index.js";
import { prometheusMetrics } from "../../src/metrics.js";

const TTL = 600;
const GMAIL = { domain: "gmail.com" };

/** The way to a ledger, which can be down, or lose answers. */
class Line implements Engine {
  readonly ttl: number = TTL;
  isDown = false;
  losesAnswers = false;
  calls = 0;
  readonly #ledger: Ledger;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  async state(statement: Statement): Promise<Reply> {
    this.calls++;
    if (this.isDown) throw new Error("connection refused");
    const reply = await this.#ledger.state(statement);
    if (this.losesAnswers) throw new Error("the answer is lost");
    return reply;
  }

  async reap(member: string): Promise<void> {
    if (!this.isDown) await this.#ledger.reap(member);
  }

  members(): Promise<readonly MemberInfo[]> {
    return this.#ledger.members();
  }

  listen(member: string, hear: (push: Push) => void): Disposable {
    return this.#ledger.listen(member, hear);
  }
}

interface Member {
  readonly limiter: Limiter;
  readonly line: Line;
  readonly states: string[];
  readonly lost: string[];
}

const opened: Limiter[] = [];
const leases: Lease[] = [];

function member(ledger: Ledger, limit: number, whenDown: WhenDown = "refuse"): Member {
  const line = new Line(ledger);
  const states: string[] = [];
  const lost: string[] = [];
  const observer: Observer = {
    cluster: ({ state }) => states.push(state),
    lost: ({ target }) => lost.push(target.domain),
  };
  const cluster = makeCluster("test", line, { whenDown, watchdog: false });
  const policy = definePolicy({ cluster_server_max_outbound_connections: limit });
  const limiter = createLimiter(policy, { cluster, observer });
  opened.push(limiter);
  return { limiter, line, states, lost };
}

async function take({ limiter }: Member, options = {}): Promise<Lease> {
  const lease = await limiter.acquire(GMAIL, options);
  leases.push(lease);
  return lease;
}

async function until(holds: () => boolean): Promise<void> {
  for (let tries = 0; tries < 1_000; tries++) {
    if (holds()) return;
    await sleep(5);
  }
  throw new Error("It did not come to that within 5 s");
}

afterEach(async () => {
  for (const lease of leases.splice(0)) lease.release();
  for (const limiter of opened.splice(0)) await limiter.close({ timeout: 0 });
});

describe("a member whose policy changes", () => {
  it("learns at once how the new limits stand, and keeps what it needs again", async () => {
    const one = member(new Ledger({ ttl: 60_000 }), 3);
    const lease = await take(one);
    await take(one);
    one.limiter.update(definePolicy({ cluster_server_max_outbound_connections: 4 }));
    await sleep(20);
    const { calls } = one.line;
    lease.release();
    await take(one);
    expect(one.line.calls).toBe(calls);
  });
});

describe("a member whose engine does not answer", () => {
  it("refuses new connections at once, says why, and takes them again when it answers", async () => {
    const one = member(new Ledger({ ttl: TTL }), 1);
    const held = await take(one);
    one.line.isDown = true;
    await until(() => one.states.includes("down"));
    const refused = await take(one).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "ERR_LIMITER_CLUSTER" });
    expect((refused as Error).message).toBe(
      "No connection slot for gmail.com via default: cluster limits cannot be checked: connection refused",
    );
    expect((refused as Error).cause).toMatchObject({ message: "connection refused" });
    one.line.isDown = false;
    held.release();
    await until(() => one.states.at(-1) === "up");
    await take(one);
    expect(one.states).toEqual(["up", "down", "up"]);
    expect(one.lost).toEqual([]);
  });

  it("refuses those who wait", async () => {
    const one = member(new Ledger({ ttl: TTL }), 1);
    await take(one);
    const waiting = take(one).catch((error: unknown) => error);
    await sleep(20);
    one.line.isDown = true;
    expect(await waiting).toMatchObject({ code: "ERR_LIMITER_CLUSTER" });
  });

  it("goes on with what it holds, and loses it before others may get it", async () => {
    const ledger = new Ledger({ ttl: TTL });
    const [one, other] = [member(ledger, 2), member(ledger, 2)];
    const lease = await take(one);
    const reasons: unknown[] = [];
    lease.lost.addEventListener("abort", () => reasons.push(lease.lost.reason));
    one.line.isDown = true;
    const [first, second] = [take(other), take(other)];
    await first;
    let lostFirst: boolean | undefined;
    void second.then(() => {
      lostFirst = lease.lost.aborted;
    });
    await second;
    expect(lostFirst).toBe(true);
    expect(reasons).toMatchObject([{ code: "ERR_LIMITER_LOST", target: GMAIL }]);
    expect(one.lost).toEqual(["gmail.com"]);
    // Still held: its connection is open until its holder closes it.
    expect(one.limiter.snapshot().leases).toBe(1);
    lease.release();
  });

  it("shows in the metrics that the engine is away, what was lost, and which connections are this process's", async () => {
    const ledger = new Ledger({ ttl: TTL });
    const [one, other] = [member(ledger, 3), member(ledger, 3)];
    const registry = new promClient.Registry();
    using _metrics = prometheusMetrics(one.limiter, promClient, { registry });
    const value = async (name: string): Promise<number | undefined> => {
      const { values } = (await registry.getSingleMetric(`outbound_limiter_${name}`)?.get()) ?? { values: [] };
      const ofCluster = values.find(({ labels }) => String(labels["option"]).startsWith("cluster_"));
      return (ofCluster ?? values[0])?.value;
    };
    await take(other);
    await take(one);
    await until(() => one.limiter.snapshot().counters.some(({ inUse, limit }) => limit === 3 && inUse === 2));
    expect([await value("scope_in_use"), await value("scope_fullest_in_use")]).toEqual([1, 2]);
    expect([await value("cluster_down"), await value("cluster_lost_leases_total")]).toEqual([0, 0]);
    one.line.isDown = true;
    await until(() => one.lost.length > 0);
    expect([await value("cluster_down"), await value("cluster_lost_leases_total")]).toEqual([1, 1]);
  });

  it("loses no lease that was released before", async () => {
    const one = member(new Ledger({ ttl: TTL }), 2);
    const lease = await take(one);
    const { lost } = lease;
    lease.release();
    one.line.isDown = true;
    await sleep(TTL);
    expect(lost.aborted).toBe(false);
    expect(one.lost).toEqual([]);
  });

  it("admits what its own limits allow, with whenDown admit", async () => {
    const ledger = new Ledger({ ttl: TTL });
    const [one, other] = [member(ledger, 2, "admit"), member(ledger, 2, "admit")];
    await take(other);
    await take(other);
    one.line.isDown = true;
    const all = [await take(one), await take(one)];
    await expect(take(one, { timeout: 20 })).rejects.toMatchObject({ code: "ERR_LIMITER_TIMEOUT" });
    await sleep(TTL);
    expect(one.lost).toEqual([]);
    // Back again, what was admitted counts: nobody gets more until it is gone.
    one.line.isDown = false;
    await until(() => one.states.at(-1) === "up");
    await expect(take(one, { timeout: 20 })).rejects.toMatchObject({ code: "ERR_LIMITER_TIMEOUT" });
    for (const lease of all) lease.release();
    await expect(take(one, { timeout: 20 })).rejects.toMatchObject({ code: "ERR_LIMITER_TIMEOUT" });
  });

  it("shrinks to its share and then works alone, with whenDown share", async () => {
    const ledger = new Ledger({ ttl: TTL });
    const members = [member(ledger, 5, "share"), member(ledger, 5, "share")] as [Member, Member];
    const [one, other] = members;
    await take(other).then((lease) => lease.release());
    // One has four of the five, so it has to give some up.
    const mine: Lease[] = [];
    for (let i = 0; i < 4; i++) mine.push(await take(one));
    for (const lease of mine) lease.lost.addEventListener("abort", lease.release);
    for (const { line } of members) line.isDown = true;
    const open = (): number[] => members.map(({ limiter }) => limiter.snapshot().leases);
    const goOn = members.map(async (one) => {
      const got: Lease[] = [];
      for (;;) {
        const lease = await take(one, { timeout: 3 * TTL }).catch(() => undefined);
        expect(open().reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(5);
        if (lease === undefined) return got;
        got.push(lease);
      }
    });
    await Promise.all(goOn);
    expect(open().sort((a, b) => a - b)).toEqual([2, 3]);
    // The newest were given up.
    expect(mine.map(({ lost }) => lost.aborted)).toContain(true);
    expect(mine[0]?.lost.aborted).toBe(false);
  });

  it("asks about an idle engine no more often than five times in a ttl", async () => {
    const one = member(new Ledger({ ttl: TTL }), 2);
    await until(() => one.states.includes("up"));
    const before = one.line.calls;
    await sleep(TTL * 2);
    expect(one.line.calls - before).toBeLessThanOrEqual(11);
  });
});

describe("a member that loses answers", () => {
  it("says again what it holds, and no slot is lost or there twice", async () => {
    const ledger = new Ledger({ ttl: TTL });
    const [one, other] = [member(ledger, 3), member(ledger, 3)];
    await until(() => one.states.length + other.states.length === 2);
    await take(one);
    one.line.losesAnswers = true;
    const lost = await take(one).catch((error: unknown) => error);
    expect(lost).toMatchObject({ code: "ERR_LIMITER_CLUSTER" });
    one.line.losesAnswers = false;
    await until(() => one.states.at(-1) === "up");
    await take(other, { timeout: 5_000 });
    await take(other, { timeout: 5_000 });
    await expect(take(other, { timeout: 50 })).rejects.toMatchObject({ code: "ERR_LIMITER_TIMEOUT" });
  });
});

describe("a member of an engine that learns", () => {
  it("is given nothing for one ttl, and keeps what it holds", async () => {
    const ledger = new Ledger({ ttl: TTL, isNew: false });
    const one = member(ledger, 2);
    await until(() => one.states.length > 0);
    expect(one.states).toEqual(["recovering"]);
    const lease = await take(one);
    expect(lease.waited).toBeGreaterThan(TTL / 2);
    expect(one.states).toEqual(["recovering", "up"]);
  });
});
