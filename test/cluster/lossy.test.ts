// Statements that do not arrive and answers that get lost, at random: no limit is ever exceeded, and in the end the engine
// has nothing that nobody holds.
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { seeded } from "../../bench/workloads.js";
import { makeCluster } from "../../src/cluster/cluster.js";
import type { Engine, MemberInfo, Push, Reply, Statement } from "../../src/cluster/engine.js";
import { Ledger } from "../../src/cluster/ledger.js";
import { createLimiter, isLimiterError, type Lease, type Limiter, parsePolicy } from "../../src/index.js";

const TTL = 3_000;
const LIMIT = 2;
const POLICY = parsePolicy(`cluster_max_outbound_connections = ${LIMIT}`);
const PROCESSES = 3;
const DOMAINS = ["a.example", "b.example", "c.example"];
const PLAYS = Math.max(40, Number(process.env["FUZZ_RUNS"] ?? 0) / 20);
const STEPS = 150;

/** The way to a ledger that loses one in so many statements, and one in so many answers; and pushes as well. */
class Line implements Engine {
  readonly ttl: number = TTL;
  readonly #ledger: Ledger;
  readonly #random: () => number;
  /** Whether a beat tells of all counters, as to a process that holds few. Else a slip is not mended by the next one. */
  readonly #tells: boolean;
  loses: number;
  lost = 0;
  /** Whether an answer was heard since nothing is lost any more. */
  heardAgain = false;

  constructor(ledger: Ledger, random: () => number, tells: boolean) {
    this.#ledger = ledger;
    this.#tells = tells;
    this.#random = random;
    this.loses = 0.05 + 0.3 * random();
  }

  async state(statement: Statement): Promise<Reply> {
    await this.#way();
    const reply = await this.#ledger.state({ ...statement, beat: statement.beat && this.#tells });
    await this.#way();
    if (this.loses === 0 && reply.status === "ok") this.heardAgain = true;
    return reply;
  }

  async reap(member: string): Promise<void> {
    await this.#way();
    await this.#ledger.reap(member);
  }

  members(): Promise<readonly MemberInfo[]> {
    return this.#ledger.members();
  }

  listen(member: string, hear: (push: Push) => void): Disposable {
    return this.#ledger.listen(member, (push) => {
      if (!this.#isLost()) hear(push);
    });
  }

  async #way(): Promise<void> {
    if (this.#random() < 0.5) await sleep(5 * this.#random());
    if (this.#isLost()) throw new Error("lost on its way");
  }

  #isLost(): boolean {
    const isLost = this.#random() < this.loses;
    if (isLost) this.lost++;
    return isLost;
  }
}

interface Played {
  readonly granted: number;
  readonly lost: number;
  readonly most: number;
}

async function play(seed: number, tells: boolean): Promise<Played> {
  const random = seeded(seed);
  const ledger = new Ledger({ ttl: TTL });
  const lines = Array.from({ length: PROCESSES }, () => new Line(ledger, random, tells));
  const limiters = lines.map((line) => {
    return createLimiter(POLICY, { cluster: makeCluster("test", line, { whenDown: "refuse", watchdog: false }) });
  });
  const open = new Map<string, Set<Lease>>(DOMAINS.map((domain) => [domain, new Set()]));
  let [granted, most] = [0, 0];

  const connect = async (limiter: Limiter, domain: string): Promise<void> => {
    const leases = open.get(domain)!;
    try {
      const lease = await limiter.acquire({ domain }, { timeout: 200 });
      granted++;
      leases.add(lease);
      most = Math.max(most, leases.size);
      const close = (): void => {
        leases.delete(lease);
        lease.release();
      };
      lease.lost.addEventListener("abort", close);
      await sleep(50 * random());
      close();
    } catch (error) {
      if (!isLimiterError(error)) throw error;
    }
  };

  const connections: Promise<void>[] = [];
  for (let step = 0; step < STEPS; step++) {
    const limiter = limiters[Math.floor(random() * PROCESSES)]!;
    connections.push(connect(limiter, DOMAINS[Math.floor(random() * DOMAINS.length)]!));
    await sleep(20 * random());
  }
  for (const line of lines) line.loses = 0;
  await Promise.all(connections);
  await expect.poll(() => lines.every(({ heardAgain }) => heardAgain), { timeout: 30_000 }).toBe(true);
  // What is idle goes back. Members say so as they are: nobody expires before.
  const left = async (): Promise<unknown> => (await ledger.members()).flatMap(({ holds }) => [...holds]);
  await expect.poll(left, { timeout: 30_000, message: `seed ${seed}` }).toEqual([]);
  expect((await ledger.members()).length, `seed ${seed}`).toBe(PROCESSES);
  // Nor does the engine think that anybody waits.
  for (const limiter of limiters) {
    for (const domain of DOMAINS) (await limiter.acquire({ domain }, { timeout: 5_000 })).release();
    await limiter.close();
  }
  expect([...ledger.queues.lines.keys()], `seed ${seed}`).toEqual([]);
  return { granted, lost: lines.reduce((sum, { lost }) => sum + lost, 0), most };
}

describe("a cluster that loses much of what is said", () => {
  it.each([
    ["where a beat tells of all", true],
    ["where it does not, as with thousands of counters", false],
  ])(
    "never exceeds a limit, and keeps nothing for nobody, %s",
    async (_, tells) => {
      const seeds = Array.from({ length: PLAYS }, () => Math.floor(Math.random() * 2 ** 31));
      const played = await Promise.all(seeds.map(async (seed) => play(seed, tells)));
      for (const [at, { most }] of played.entries()) expect(most, `seed ${seeds[at]}`).toBeLessThanOrEqual(LIMIT);
      // It was worth it.
      expect(Math.max(...played.map(({ most }) => most))).toBe(LIMIT);
      const sum = (of: "granted" | "lost"): number => played.reduce((so, one) => so + one[of], 0);
      expect(sum("lost")).toBeGreaterThan(10 * PLAYS);
      expect(sum("granted")).toBeGreaterThan(10 * PLAYS);
    },
    120_000,
  );
});
