// A process that holds slots of more counters than fit in one statement says them in parts, and loses none by that.
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { afterEach, describe, expect, it } from "vitest";
import { makeCluster } from "../../src/cluster/cluster.js";
import type { Engine, MemberInfo, Push, Reply, Statement } from "../../src/cluster/engine.js";
import { Ledger } from "../../src/cluster/ledger.js";
import { createLimiter, type Lease, type Limiter, parsePolicy } from "../../src/index.js";
import { redisCluster } from "../../src/redis.js";
import { describeServer, startRedis } from "../redis/server.js";

const TTL = 4_000;
const COUNTERS = 6_000;
/** As in books.ts. */
const MOST_HOLDS = 2_000;
/** As in asks.ts. */
const MOST_ASKS = 500;
const POLICY = parsePolicy("cluster_max_outbound_connections = 1 server_max_outbound_connections = -1");

/** The way to a ledger, which can be slow, lose answers, or lead to another ledger. */
class Line implements Engine {
  readonly ttl: number = TTL;
  ledger: Ledger;
  isDeaf = false;
  losesAnswers = false;
  /** How long statements are under way, once everything is being said again. */
  delay = 0;
  statements: Statement[] = [];

  constructor(ledger: Ledger) {
    this.ledger = ledger;
  }

  async state(statement: Statement): Promise<Reply> {
    this.statements.push(statement);
    const isAgain = !statement.full && this.statements.some(({ full, sequence }) => full && sequence > 1);
    if (isAgain && this.delay > 0) await sleep(this.delay);
    const reply = await this.ledger.state(statement);
    if (this.losesAnswers) throw new Error("the answer is lost");
    return reply;
  }

  async reap(member: string): Promise<void> {
    await this.ledger.reap(member);
  }

  members(): Promise<readonly MemberInfo[]> {
    return this.ledger.members();
  }

  listen(member: string, hear: (push: Push) => void): Disposable {
    return this.ledger.listen(member, (push) => {
      if (!this.isDeaf) hear(push);
    });
  }
}

interface Process {
  readonly limiter: Limiter;
  readonly line: Line;
  readonly lost: string[];
}

const opened: Limiter[] = [];
afterEach(async () => {
  for (const limiter of opened.splice(0)) await limiter.close({ timeout: 0 });
});

function start(ledger: Ledger): Process {
  const line = new Line(ledger);
  const lost: string[] = [];
  const limiter = createLimiter(POLICY, {
    cluster: makeCluster("test", line, { whenDown: "refuse", watchdog: false }),
    observer: { lost: ({ target }) => lost.push(target.domain) },
  });
  opened.push(limiter);
  return { limiter, line, lost };
}

const domainOf = (index: number): string => `d${index}.example`;

/** One connection to each of so many domains. */
async function fill(limiter: Limiter, counters: number): Promise<Lease[]> {
  const leases: Lease[] = [];
  for (let from = 0; from < counters; from += 1_000) {
    const some = Array.from({ length: Math.min(1_000, counters - from) }, (_, index) => domainOf(from + index));
    leases.push(...(await Promise.all(some.map((domain) => limiter.acquire({ domain })))));
  }
  return leases;
}

/** By member, how many slots it holds. */
async function held(engine: Pick<Engine, "members">): Promise<number[]> {
  return (await engine.members()).map(({ holds }) => sumOf([...holds.values()])).sort((a, b) => b - a);
}

function sumOf(slots: readonly number[]): number {
  return slots.reduce((sum, some) => sum + some, 0);
}

/** That everything was said in parts under a name of its own, once, and nothing was asked meanwhile. */
function expectParts(statements: readonly Statement[], before: string): void {
  const at = statements.findLastIndex(({ full }) => full);
  const parts = statements.slice(at, at + COUNTERS / MOST_HOLDS);
  const names = new Set(parts.map(({ member }) => member));
  expect(names.size).toBe(1);
  expect(names).not.toContain(before);
  expect(parts.map(({ full, holds, asks }) => [full, holds.size, asks.length])).toEqual(
    parts.map((_, index) => [index === 0, MOST_HOLDS, 0]),
  );
  expect(new Set(parts.flatMap(({ holds }) => [...holds.keys()])).size).toBe(COUNTERS);
}

/** That others wait for some of the slots, and get them only when they are given back. */
async function expectKept({ limiter }: Process, leases: Lease[], meanwhile: () => Promise<void>): Promise<void> {
  let granted = 0;
  const asked = [0, 2_500, 5_999].map(async (index) => {
    await limiter.acquire({ domain: domainOf(index) });
    granted++;
  });
  await meanwhile();
  expect(granted).toBe(0);
  for (const lease of leases) lease.release();
  await Promise.all(asked);
}

describe("a process with thousands of counters", () => {
  it("says all of them again after an answer was lost, and then gives back what it said before", async () => {
    const ledger = new Ledger({ ttl: TTL });
    const [one, other] = [start(ledger), start(ledger)];
    const leases = await fill(one.limiter, COUNTERS);
    const [{ member: before }] = one.line.statements as [Statement];
    await expectKept(other, leases, async () => {
      one.line.losesAnswers = true;
      await expect.poll(() => one.line.statements.some(({ full, sequence }) => full && sequence > 1)).toBe(true);
      one.line.losesAnswers = false;
      await expect.poll(async () => held(ledger), { timeout: 20 * TTL }).toEqual([COUNTERS, 0]);
      expectParts(one.line.statements, before);
      expect(one.line.statements.some(({ leave, member }) => leave && member === before)).toBe(true);
      expect(one.lost).toEqual([]);
    });
  });

  it("says all of them to an engine that knows nothing", async () => {
    const [one, other] = [start(new Ledger({ ttl: TTL })), start(new Ledger({ ttl: TTL }))];
    const leases = await fill(one.limiter, COUNTERS);
    const [{ member: before }] = one.line.statements as [Statement];
    const empty = new Ledger({ ttl: TTL, isNew: false });
    other.line.ledger = empty;
    const waiting = one.limiter.acquire({ domain: domainOf(7) });
    await expectKept(other, leases, async () => {
      one.line.ledger = empty;
      await expect.poll(async () => held(empty), { timeout: 20 * TTL }).toEqual([COUNTERS, 0]);
      expectParts(one.line.statements, before);
      await sleep(2 * TTL);
      expect(one.lost).toEqual([]);
    });
    await waiting;
  });

  it("loses them if it cannot say all of them in time, before others may have the rest", async () => {
    const [one, other] = [start(new Ledger({ ttl: TTL })), start(new Ledger({ ttl: TTL }))];
    const many = 5 * MOST_HOLDS;
    await fill(one.limiter, many);
    const empty = new Ledger({ ttl: TTL, isNew: false });
    one.line.ledger = other.line.ledger = empty;
    // Each part comes in time, but not the last one.
    one.line.delay = 0.3 * TTL;
    await other.limiter.acquire({ domain: domainOf(many - 1) });
    expect(one.lost).toHaveLength(many);
  });

  it("learns with a beat who waits for one of them, although it did not hear of it", async () => {
    const ledger = new Ledger({ ttl: TTL });
    const [one, other] = [start(ledger), start(ledger)];
    const leases = await fill(one.limiter, COUNTERS);
    one.line.isDeaf = true;
    for (const lease of leases) lease.idle(lease.release);
    await Promise.all([3, 4_321].map(async (index) => other.limiter.acquire({ domain: domainOf(index) })));
    expect(one.limiter.snapshot().leases).toBe(COUNTERS - 2);
    const largest = Math.max(...one.line.statements.map(({ holds }) => holds.size));
    expect(largest).toBeLessThanOrEqual(MOST_HOLDS);
  });

  it("follows another policy without saying everything again", async () => {
    const ledger = new Ledger({ ttl: TTL });
    const one = start(ledger);
    const leases = await fill(one.limiter, COUNTERS);
    const asked = one.limiter.acquire({ domain: domainOf(0) });
    one.limiter.update(parsePolicy("cluster_max_outbound_connections = 2 server_max_outbound_connections = -1"));
    leases.push(await asked);
    expect(await held(ledger)).toEqual([COUNTERS + 1]);
    one.limiter.update(parsePolicy("server_max_outbound_connections = -1"));
    await expect.poll(async () => held(ledger)).toEqual([0]);
    expect(one.line.statements.filter(({ full }) => full)).toHaveLength(1);
    for (const lease of leases) lease.release();
  });
});

describeServer("a process with 20,000 counters, on Redis", () => {
  it("keeps all of them when the server comes back empty, with no call larger than a part", async () => {
    await using server = await startRedis();
    const redis = new Redis(server.url);
    redis.on("error", () => {}); // it is restarted; the client comes back by itself
    let largest = 0;
    const client = async (script: string, keys: readonly string[], args: readonly string[]): Promise<unknown> => {
      largest = Math.max(largest, args.length);
      return redis.eval(script, keys.length, ...keys, ...args);
    };
    let lost = 0;
    const cluster = redisCluster(client, { isNew: true, watchdog: false, ttl: 5_000 });
    const limiter = createLimiter(POLICY, { cluster, observer: { lost: () => void lost++ } });
    const leases = await fill(limiter, 20_000);
    await server.restart();
    const known = async (): Promise<number[]> =>
      (await cluster.members()).map(({ holds }) => sumOf(Object.values(holds)));
    await expect.poll(async () => known().catch(() => []), { timeout: 30_000 }).toEqual([20_000]);
    // As long as what was good before the restart is not any more.
    await sleep(5_000);
    expect(lost).toBe(0);
    expect(limiter.snapshot().leases).toBe(20_000);
    expect(largest).toBeLessThan(2 * MOST_HOLDS + 5 * MOST_ASKS + 100);
    for (const lease of leases) lease.release();
    await limiter.close();
    redis.disconnect();
  });
});
