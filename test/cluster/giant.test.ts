// A process that holds slots of more counters than fit in one statement says them in parts, and loses none by that.
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { afterEach, describe, expect, it } from "vitest";
import { makeCluster, type WhenDown } from "../../src/cluster/cluster.js";
import type { Engine, MemberInfo, Push, Reply, Statement } from "../../src/cluster/engine.js";
import { Ledger } from "../../src/cluster/ledger.js";
import { createLimiter, type Lease, type Limiter, type Policy, parsePolicy } from "../../src/index.js";
import { redisCluster } from "../../src/redis.js";
import { describeServer, startRedis } from "../redis/server.js";

const TTL = 4_000;
/** Longer than it takes to say everything, on any machine. */
const REDIS_TTL = 10_000;
const COUNTERS = 6_000;
/** As in books.ts. */
const MOST_HOLDS = 2_000;
/** As in asks.ts. */
const MOST_ASKS = 500;
const POLICY = policyOf(1);

function policyOf(limit: number): Policy {
  return parsePolicy(`cluster_max_outbound_connections = ${limit} server_max_outbound_connections = -1`);
}

/** The way to a ledger, which can be down or slow, lose answers, or lead to another ledger. */
class Line implements Engine {
  readonly ttl: number = TTL;
  ledger: Ledger;
  isDeaf = false;
  isDown = false;
  losesAnswers = false;
  /** Called with each statement. */
  meets: (statement: Statement) => void = () => {};
  /** Called with each answer, before it is lost or not. */
  answers: () => void = () => {};
  /** How long statements are under way, once everything is being said again. */
  delay = 0;
  statements: Statement[] = [];

  constructor(ledger: Ledger) {
    this.ledger = ledger;
  }

  async state(statement: Statement): Promise<Reply> {
    this.meets(statement);
    this.statements.push(statement);
    if (this.isDown) throw new Error("connection refused");
    const isAgain = this.statements.some(({ full, sequence }) => full && sequence > 1);
    if (isAgain && !statement.full && this.delay > 0) await sleep(this.delay);
    const reply = await this.ledger.state(statement);
    this.answers();
    if (this.losesAnswers) throw new Error("the answer is lost");
    return reply;
  }

  async reap(member: string): Promise<void> {
    if (!this.isDown) await this.ledger.reap(member);
  }

  members(): Promise<readonly MemberInfo[]> {
    return this.ledger.members();
  }

  listen(member: string, hear: (push: Push) => void): Disposable {
    return this.ledger.listen(member, (push) => {
      if (!this.isDeaf && !this.isDown) hear(push);
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

function start(ledger: Ledger, limit = 1, whenDown: WhenDown = "refuse"): Process {
  const line = new Line(ledger);
  const lost: string[] = [];
  const limiter = createLimiter(policyOf(limit), {
    cluster: makeCluster("test", line, { whenDown, watchdog: false }),
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

/** Asks for so many connections, and does not mind what becomes of that. */
function want({ limiter }: Process, domain: string, count: number): void {
  for (let asked = 0; asked < count; asked++) limiter.acquire({ domain }).catch(() => {});
}

/** How many connections are open to a domain. */
function openTo({ limiter }: Process, domain: string): number {
  return [...limiter.leases()].filter(({ target }) => target.domain === domain).length;
}

/** Just after the next statement, whatever becomes of it. */
async function nextStatement({ line }: Process): Promise<void> {
  await new Promise<void>((resolve) => {
    line.meets = () => {
      line.meets = () => {};
      resolve();
    };
  });
  await sleep(5);
}

/** By member, how many slots it holds. */
async function held(engine: Pick<Engine, "members">): Promise<number[]> {
  return (await engine.members()).map(({ holds }) => sumOf([...holds.values()])).sort((a, b) => b - a);
}

function sumOf(slots: readonly number[]): number {
  return slots.reduce((sum, some) => sum + some, 0);
}

/** That everything was said in parts, and nothing was asked before the end. */
function expectParts(statements: readonly Statement[]): void {
  const parts = statements.slice(0, COUNTERS / MOST_HOLDS);
  expect(parts.map(({ holds }) => holds.size)).toEqual(parts.map(() => MOST_HOLDS));
  expect(new Set(parts.flatMap(({ holds }) => [...holds.keys()])).size).toBe(COUNTERS);
  expect(parts.slice(0, -1).every(({ asks }) => asks.length === 0)).toBe(true);
}

const WANTED: readonly number[] = [0, 2_500, 5_999];

/** That others wait for some of the slots, and get them only when they are given back. */
async function expectKept({ limiter }: Process, leases: Lease[], meanwhile: () => Promise<void>): Promise<void> {
  let granted = 0;
  const asked = WANTED.map(async (index) => {
    await limiter.acquire({ domain: domainOf(index) });
    granted++;
  });
  await meanwhile();
  expect(granted).toBe(0);
  for (const lease of leases) lease.release();
  await Promise.all(asked);
}

describe("a process with thousands of counters", () => {
  it("says all of them to an engine that knows nothing", async () => {
    const [one, other] = [start(new Ledger({ ttl: TTL })), start(new Ledger({ ttl: TTL }))];
    const leases = await fill(one.limiter, COUNTERS);
    const empty = new Ledger({ ttl: TTL, isNew: false });
    other.line.ledger = empty;
    const waiting = one.limiter.acquire({ domain: domainOf(7) });
    await expectKept(other, leases, async () => {
      one.line.ledger = empty;
      one.line.statements = [];
      await expect.poll(async () => held(empty), { timeout: 20 * TTL }).toEqual([COUNTERS, 0]);
      expectParts(one.line.statements.slice(one.line.statements.findIndex(({ full }) => full)));
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

describe("a process with thousands of counters whose engine was not heard", () => {
  /** What goes back to the engine at once with these leases. What nobody else wants stays for a while. */
  async function givenBack({ line }: Process, leases: readonly Lease[]): Promise<string[]> {
    line.statements = [];
    for (const lease of leases) lease.release();
    await sleep(50);
    return line.statements.flatMap(({ holds }) => [...holds].flatMap(([key, slots]) => (slots === 0 ? [key] : [])));
  }

  it("says again what was not heard, and no more, and has all that it held", async () => {
    const ledger = new Ledger({ ttl: TTL });
    const [one, other] = [start(ledger), start(ledger)];
    const leases = await fill(one.limiter, COUNTERS);
    let asked = 0;
    for (const [index, lease] of leases.entries()) if (!WANTED.includes(index)) lease.idle(() => void asked++);
    await expectKept(other, leases, async () => {
      one.line.losesAnswers = true;
      await sleep(TTL / 2);
      one.line.losesAnswers = false;
      one.line.statements = [];
      await expect.poll(() => one.line.statements.length, { timeout: TTL }).toBeGreaterThan(2);
      expect(await held(ledger)).toEqual([COUNTERS, 0]);
      expect([asked, one.lost.length]).toEqual([0, 0]);
    });
  });

  it("says only what it holds, not all that it has seen", async () => {
    const one = start(new Ledger({ ttl: TTL }));
    const [kept, ...others] = await fill(one.limiter, COUNTERS);
    for (const lease of others) lease.release();
    await expect.poll(async () => held(one.line), { timeout: 20_000 }).toEqual([1]); // what is idle goes back
    one.line.ledger = new Ledger({ ttl: TTL });
    one.line.statements = [];
    await expect.poll(async () => held(one.line), { timeout: TTL }).toEqual([1]);
    expect(Math.max(...one.line.statements.map(({ holds }) => holds.size))).toBe(1);
    kept!.release();
  });

  it("shares a limit as those do who hold little", async () => {
    const ledger = new Ledger({ ttl: TTL });
    const both = [start(ledger, 3, "share"), start(ledger, 3, "share")] as const;
    for (const { limiter } of both) await fill(limiter, COUNTERS);
    // Until each has heard of the other.
    await expect.poll(() => both.every(({ line }) => Number(line.statements.at(-1)?.members) > 1)).toBe(true);
    for (const { line } of both) line.isDown = true;
    await sleep(1.5 * TTL);
    const domains = Array.from({ length: 50 }, (_, index) => domainOf(index));
    for (const { limiter } of both) {
      const asked = domains.flatMap((domain) => [1, 2, 3].map(() => limiter.acquire({ domain })));
      for (const one of asked) one.catch(() => {}); // by close
    }
    await sleep(500);
    const open = new Map<string, number>();
    for (const { limiter } of both) {
      for (const { target } of limiter.leases()) open.set(target.domain, (open.get(target.domain) ?? 0) + 1);
    }
    expect(domains.map((domain) => open.get(domain))).toEqual(domains.map(() => 3));
  });

  it("uses nothing again before all is said: it would not be lost in time", async () => {
    const ledger = new Ledger({ ttl: TTL });
    const [one, other] = [start(ledger), start(ledger)];
    const leases = await fill(one.limiter, COUNTERS);
    one.line.isDown = true;
    await expect.poll(() => one.lost.length, { timeout: 2 * TTL }).toBe(COUNTERS);
    await expect.poll(async () => held(ledger), { timeout: 3 * TTL }).toEqual([0]); // of the other
    // One part gets through. Then the connections are closed.
    let part: Statement | undefined;
    one.line.meets = (statement) => {
      one.line.isDown = part !== undefined;
      if (statement.full) part ??= statement;
    };
    await expect.poll(async () => held(ledger), { timeout: TTL, interval: 1 }).toEqual([MOST_HOLDS, 0]);
    for (const lease of leases) lease.release();
    const domain = /d\d+\.example/.exec([...part!.holds.keys()][100]!)![0];
    await expect(one.limiter.acquire({ domain })).rejects.toMatchObject({ code: "ERR_LIMITER_CLUSTER" });
    await other.limiter.acquire({ domain });
  });

  it("asks for who does not wait once all is said, and then needs no answer for what it has", async () => {
    const one = start(new Ledger({ ttl: TTL }));
    const leases = await fill(one.limiter, COUNTERS);
    one.line.ledger = new Ledger({ ttl: TTL });
    const asked = new Promise<Lease>((resolve, reject) => {
      let parts = 0;
      one.line.meets = ({ full }) => {
        if (full || parts > 0) parts++;
        if (parts !== 2) return;
        one.line.meets = () => {};
        one.limiter.acquire({ domain: "free.example" }, { timeout: 0 }).then(resolve, reject);
      };
    });
    expect((await asked).target).toEqual({ domain: "free.example" });
    await sleep(200);
    expect(await givenBack(one, leases)).toEqual([]);
  });

  it("learns of new limits for all, also while a beat is under way", async () => {
    const one = start(new Ledger({ ttl: TTL }));
    const leases = await fill(one.limiter, COUNTERS);
    await new Promise<void>((resolve) => {
      one.line.meets = ({ beat, holds }) => {
        if (beat || holds.size < MOST_HOLDS) return;
        one.line.meets = () => {};
        queueMicrotask(() => {
          one.limiter.update(policyOf(2));
          resolve();
        });
      };
    });
    await sleep(200);
    expect(await givenBack(one, leases)).toEqual([]);
  });
});

describe("what the engine does not know of yet", () => {
  it("is not asked for: after an update to a policy with limits of the cluster", async () => {
    const one = start(new Ledger({ ttl: TTL }));
    one.limiter.update(parsePolicy("server_max_outbound_connections = -1"));
    await fill(one.limiter, 3_000);
    one.limiter.update(policyOf(1));
    want(one, domainOf(2_999), 5);
    await sleep(300);
    expect(openTo(one, domainOf(2_999))).toBe(1);
  });

  it.each(["share", "admit"] as const)(
    "is not asked for: what was taken while it was away, with %s",
    async (whenDown) => {
      const one = start(new Ledger({ ttl: TTL, now: () => 0 }), 4, whenDown);
      await fill(one.limiter, 4_000);
      await expect.poll(async () => held(one.line), { timeout: 20_000 }).toEqual([4_000]); // what is spare goes back
      one.line.isDown = true;
      await sleep(whenDown === "share" ? 1.3 * TTL : TTL / 3);
      want(one, domainOf(3_999), 3);
      await nextStatement(one);
      want(one, domainOf(3_999), 5);
      one.line.isDown = false;
      await sleep(1_000);
      expect(openTo(one, domainOf(3_999))).toBe(4);
    },
  );

  it("is said again, however many requests wait for slots", async () => {
    const ledger = new Ledger({ ttl: TTL });
    const [holder, one] = [start(ledger), start(ledger, 1, "share")];
    const leases = await fill(holder.limiter, 2 * MOST_ASKS);
    let asking = 0;
    one.line.meets = ({ asks }) => {
      if (asks.length > 0) asking++;
      one.line.isDown = asks.length > 0 && asking === 2;
    };
    for (let index = 0; index < 2 * MOST_ASKS; index++) want(one, domainOf(index), 1);
    await expect.poll(() => asking, { timeout: TTL }).toBeGreaterThan(2);
    for (const lease of leases.slice(MOST_ASKS)) lease.release();
    await expect.poll(() => one.limiter.snapshot().leases, { timeout: 3 * TTL }).toBe(MOST_ASKS);
  });

  it("is no reason to use what is granted meanwhile: it would not be lost in time", async () => {
    const ledger = new Ledger({ ttl: TTL });
    const [other, one] = [start(ledger, 4), start(ledger, 4, "share")];
    const domains = Array.from({ length: 100 }, (_, index) => `wanted${index}.example`);
    const leases: Lease[] = [];
    for (const domain of domains) for (let at = 0; at < 4; at++) leases.push(await other.limiter.acquire({ domain }));
    await fill(one.limiter, 3_000);
    for (const domain of domains) want(one, domain, 4);
    await sleep(200);
    one.line.losesAnswers = true;
    await sleep(0.9 * TTL);
    await nextStatement(one);
    // One answer is heard, with some of the slots that were waited for, and nothing after that.
    for (const lease of leases) lease.release();
    one.line.losesAnswers = false;
    one.line.answers = () => {
      one.line.isDown = true;
    };
    await expect.poll(() => one.line.isDown, { timeout: TTL }).toBe(true);
    for (const domain of domains) want(other, domain, 4);
    await sleep(3 * TTL);
    // Its share.
    for (const domain of domains) expect(openTo(one, domain)).toBeLessThanOrEqual(2);
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
    const cluster = redisCluster(client, { isNew: true, watchdog: false, ttl: REDIS_TTL });
    const limiter = createLimiter(POLICY, { cluster, observer: { lost: () => void lost++ } });
    const leases = await fill(limiter, 20_000);
    await server.restart();
    const known = async (): Promise<number[]> =>
      (await cluster.members()).map(({ holds }) => sumOf(Object.values(holds)));
    await expect.poll(async () => known().catch(() => []), { timeout: 30_000 }).toEqual([20_000]);
    // As long as what was good before the restart is not any more.
    await sleep(REDIS_TTL);
    expect(lost).toBe(0);
    expect(limiter.snapshot().leases).toBe(20_000);
    expect(largest).toBeLessThan(2 * MOST_HOLDS + 5 * MOST_ASKS + 100);
    for (const lease of leases) lease.release();
    await limiter.close();
    redis.disconnect();
  });
});
