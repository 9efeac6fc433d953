// The laws of the waiting line: random sequences of operations against a naive model, and the laws that need a longer
// story. FUZZ_RUNS=10000 runs ten times as many as usual.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type AcquireOptions,
  createLimiter,
  type Lease,
  type LocalLimiter,
  parsePolicy,
  type Target,
} from "../../src/index.js";
import { VirtualClock } from "../model/clock.js";
import { turn } from "./open.js";
import { Play, rush, sizes, steps, stepsWithUpdates } from "./play.js";
import { changing, contended, world } from "./worlds.js";

const scale: number = Number(process.env["FUZZ_RUNS"] ?? 1000) / 1000;
const runs = (usual: number): { numRuns: number } => ({ numRuns: Math.max(1, Math.round(usual * scale)) });
const TIMEOUT = 600_000 * Math.max(1, scale);

const ending = fc.constantFrom("drain" as const, "close" as const);

describe("a limiter against the model of the table", () => {
  it("keeps the laws in any order of operations", { timeout: TIMEOUT }, async () => {
    await fc.assert(
      fc.asyncProperty(world, steps(60), sizes, ending, async (world, steps, sizes, ending) => {
        const play = new Play([world], sizes);
        await play.play(steps);
        await play.end(ending);
      }),
      runs(1500),
    );
  });

  it("keeps the laws over a long time, when some requests have been passed over often", {
    timeout: TIMEOUT,
  }, async () => {
    await fc.assert(
      fc.asyncProperty(world, steps(400), sizes, ending, async (world, steps, sizes, ending) => {
        const play = new Play([world], sizes);
        await play.play(steps);
        await play.end(ending);
      }),
      runs(150),
    );
  });

  it("keeps the laws when a line forms behind every limit and some need two", { timeout: TIMEOUT }, async () => {
    await fc.assert(
      fc.asyncProperty(contended, rush, ending, async (world, steps, ending) => {
        const play = new Play([world], { maxWaiting: 1000, matchCacheSize: 2 });
        await play.play(steps);
        await play.end(ending);
      }),
      runs(60),
    );
  });

  it("keeps the laws when the policy changes", { timeout: TIMEOUT }, async () => {
    await fc.assert(
      fc.asyncProperty(changing, stepsWithUpdates, sizes, ending, async (worlds, steps, sizes, ending) => {
        const play = new Play(worlds, sizes);
        await play.play(steps);
        await play.end(ending);
      }),
      runs(1000),
    );
  });
});

/** Requests that wait, and what became of each, in order. */
class Line {
  readonly clock: VirtualClock = new VirtualClock();
  readonly limiter: LocalLimiter;
  readonly held: Lease[] = [];
  readonly waiting = new Set<Target>();
  #arrived: Lease[] = [];

  constructor(policy: string) {
    this.limiter = createLimiter(parsePolicy(policy), { clock: this.clock, matchCacheSize: 64 });
  }

  acquire(target: Target, options?: AcquireOptions): void {
    this.waiting.add(target);
    this.limiter.acquire(target, options).then(
      (lease) => {
        this.waiting.delete(target);
        this.held.push(lease);
        this.#arrived.push(lease);
      },
      () => this.waiting.delete(target),
    );
  }

  async release(at: number): Promise<void> {
    const [lease] = this.held.splice(at % this.held.length, 1);
    lease?.release();
    await turn();
  }

  /** Leases since the last call. */
  admitted(): readonly Lease[] {
    const admitted = this.#arrived;
    this.#arrived = [];
    return admitted;
  }
}

describe("queues that compete for one limit", () => {
  it("go in turn: no other queue is served twice while one waits", { timeout: TIMEOUT }, async () => {
    const names = ["gmail.com", "orange.fr", "yahoo.com", "small.example"] as const;
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ arrive: fc.constantFrom(...names), flood: fc.constantFrom(1, 1, 5) }) },
      { weight: 4, arbitrary: fc.record({ release: fc.nat(100) }) },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 3 }),
        fc.array(step, { maxLength: 80, size: "max" }),
        async (max, steps) => {
          const line = new Line(
            `server_max_outbound_connections = ${String(max)}\nserver_reserve_outbound_connections = 0\nmax_outbound_connections = -1`,
          );
          const waiting = new Map<string, number>();
          /** For each queue that waits: how often each other queue has been served meanwhile. */
          const served = new Map<string, Map<string, number>>();
          const observe = async (): Promise<void> => {
            await turn();
            for (const { target } of line.admitted()) {
              const left = (waiting.get(target.domain) ?? 0) - 1;
              waiting.set(target.domain, left);
              served.delete(target.domain);
              for (const [queue, others] of served) {
                const times = (others.get(target.domain) ?? 0) + 1;
                others.set(target.domain, times);
                expect(times, `${target.domain} was served ${String(times)} times while ${queue} waited`).toBe(1);
              }
              if (left > 0) served.set(target.domain, new Map());
            }
          };
          for (const step of steps) {
            if ("release" in step) {
              if (line.held.length > 0) await line.release(step.release);
            } else {
              for (let left = step.flood; left > 0; left--) {
                waiting.set(step.arrive, (waiting.get(step.arrive) ?? 0) + 1);
                const before = line.limiter.snapshot().waiting;
                line.acquire({ domain: step.arrive });
                const waits = line.limiter.snapshot().waiting > before;
                if (waits && !served.has(step.arrive)) served.set(step.arrive, new Map());
              }
            }
            await observe();
          }
        },
      ),
      runs(300),
    );
  });

  it("a flood to one domain delays the one message to another by one round", async () => {
    const line = new Line("server_max_outbound_connections = 1\nserver_reserve_outbound_connections = 0");
    for (let i = 0; i < 30; i++) line.acquire({ domain: "gmail.com" });
    line.acquire({ domain: "small.example" });
    await turn();
    await line.release(0);
    await line.release(0);
    expect(line.admitted().map(({ target }) => target.domain)).toContain("small.example");
  });
});

describe("many queues behind one limit", () => {
  it("are each served once before any is served twice", async () => {
    const line = new Line("server_max_outbound_connections = 1\nserver_reserve_outbound_connections = 0");
    const first = line.limiter.tryAcquire({ domain: "first.example" });
    const names = Array.from({ length: 200 }, (_, i) => `name-${String(i)}.example`);
    for (const domain of names) for (let i = 0; i < 3; i++) line.acquire({ domain });
    first?.release();
    await turn();
    for (let round = 1; round <= 3; round++) {
      const served: string[] = [];
      while (served.length < names.length) {
        served.push(...line.admitted().map(({ target }) => target.domain));
        await line.release(0);
      }
      expect(new Set(served).size, `in round ${String(round)}`).toBe(names.length);
    }
    expect(line.limiter.snapshot()).toMatchObject({ leases: 0, waiting: 0 });
  });
});

describe("a request that needs two busy limits", () => {
  const policy = `
    server_max_outbound_connections = -1
    max_outbound_connections = -1
    binding "b" { server_max_outbound_connections = 2 }
    domain "d.example" { scope_max_outbound_connections = 2 }`;
  /** Keeps binding b busy with other domains and d.example with other bindings. */
  const flood = (i: number): Target =>
    i % 2 === 0
      ? { binding: "b", domain: `other-${String(i % 8)}.example` }
      : { binding: `other-${String(i % 8)}`, domain: "d.example" };

  it("is admitted after a bounded number of releases", { timeout: TIMEOUT }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(100), { minLength: 1, maxLength: 20 }), async (picks) => {
        const line = new Line(policy);
        let arrived = 0;
        while (arrived < 16) line.acquire(flood(arrived++));
        const wanted: Target = { binding: "b", domain: "d.example" };
        line.acquire(wanted);
        await turn();
        let releases = 0;
        for (; releases < 500 && line.waiting.has(wanted); releases++) {
          // Arrives before the release, so that neither limit ever has room for want of others.
          line.acquire(flood(arrived++));
          line.acquire(flood(arrived++));
          // In turn a lease of one limit and of the other, so that both keep coming free.
          const ofLimit = line.held.filter(({ target }) => (target.binding === "b") === (releases % 2 === 0));
          const lease = ofLimit[(picks[releases % picks.length] ?? 0) % ofLimit.length];
          await line.release(line.held.indexOf(lease as Lease));
        }
        expect(line.waiting.has(wanted), `after ${String(releases)} releases`).toBe(false);
      }),
      runs(20),
    );
  });

  /** A line in a flood, and a request that wants both limits; passed over until a slot is kept for it. */
  async function passedOver(options?: AcquireOptions): Promise<{ readonly line: Line; readonly wanted: Target }> {
    const line = new Line(policy);
    let arrived = 0;
    while (arrived < 16) line.acquire(flood(arrived++));
    const wanted: Target = { binding: "b", domain: "d.example" };
    line.acquire(wanted, options);
    await turn();
    // Four leases fill both limits; with fewer, a slot is kept for the one that wants both.
    for (let releases = 0; releases < 500 && line.limiter.snapshot().leases === 4; releases++) {
      line.acquire(flood(arrived++));
      line.acquire(flood(arrived++));
      await line.release(line.held.findIndex(({ target }) => (target.binding === "b") === (releases % 2 === 0)));
    }
    return { line, wanted };
  }

  const leaving: readonly (readonly [string, (line: Line, controller: AbortController) => void])[] = [
    ["aborts", (_, controller) => controller.abort()],
    ["times out", (line) => line.clock.advance(1000)],
    [
      "aborts right after the policy changed",
      (line, controller) => {
        line.limiter.update(parsePolicy(policy));
        controller.abort();
      },
    ],
  ];

  it.each(leaving)("gives back what it was let keep when it %s, and others go on", async (_, leave) => {
    const controller = new AbortController();
    const { line, wanted } = await passedOver({ signal: controller.signal, timeout: 1000 });
    expect(line.waiting.has(wanted), "it went before it was let keep anything").toBe(true);
    leave(line, controller);
    expect(line.limiter.snapshot().leases).toBe(4);
    await turn();
    expect(line.waiting.has(wanted)).toBe(false);
    while (line.held.length > 0) await line.release(0);
    expect(line.limiter.snapshot()).toMatchObject({ leases: 0, waiting: 0, counters: [] });
    expect(line.clock.armed).toBe(0);
  });

  it("does not let a newcomer have what it was let keep", async () => {
    const { line, wanted } = await passedOver();
    expect(line.limiter.snapshot().leases, "nothing was kept, and there is nothing to test").toBe(3);
    for (const target of [{ binding: "b", domain: "new.example" }, { binding: "new", domain: "d.example" }, wanted]) {
      expect(line.limiter.explain(target).verdict).toBe("wait");
      expect(line.limiter.tryAcquire(target)).toBeUndefined();
    }
    expect(line.limiter.snapshot().leases).toBe(3);
  });

  it("never waits for another of its kind: there is always a holder while somebody waits", {
    timeout: TIMEOUT,
  }, async () => {
    const bindings = ["a", "b", "c", "e"];
    const domains = ["a.example", "b.example", "c.example", "d.example"];
    const pairs = bindings.flatMap((binding) => domains.map((domain): Target => ({ binding, domain })));
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 2 }),
        fc.integer({ min: 1, max: 2 }),
        fc.array(fc.record({ pair: fc.nat(100), aborts: fc.boolean() }), {
          minLength: 40,
          maxLength: 120,
          size: "max",
        }),
        fc.array(fc.nat(1000), { minLength: 10, maxLength: 60, size: "max" }),
        async (ofBinding, ofDomain, requests, picks) => {
          const line = new Line(
            [
              "server_max_outbound_connections = -1",
              "max_outbound_connections = -1",
              ...bindings.map((name) => `binding "${name}" { server_max_outbound_connections = ${String(ofBinding)} }`),
              ...domains.map((name) => `domain "${name}" { scope_max_outbound_connections = ${String(ofDomain)} }`),
            ].join("\n"),
          );
          const controllers: AbortController[] = [];
          for (const { pair, aborts } of requests) {
            const target = { ...pairs[pair % pairs.length]! };
            const controller = aborts ? new AbortController() : undefined;
            if (controller !== undefined) controllers.push(controller);
            line.acquire(target, { signal: controller?.signal });
          }
          await turn();
          for (let i = 0; line.waiting.size > 0; i++) {
            expect(line.held.length, `${String(line.waiting.size)} wait and nobody holds anything`).toBeGreaterThan(0);
            const at = picks[i % picks.length] ?? 0;
            if (at % 7 === 0) controllers.splice(at % Math.max(1, controllers.length), 1)[0]?.abort();
            await line.release(at);
          }
          while (line.held.length > 0) await line.release(0);
          expect(line.limiter.snapshot()).toMatchObject({ leases: 0, waiting: 0, counters: [] });
        },
      ),
      runs(150),
    );
  });
});

describe("a hand-over to many", () => {
  it("goes on by itself until nobody who waits has room", async () => {
    const policy = (max: number): string =>
      `server_max_outbound_connections = ${String(max)}\nserver_reserve_outbound_connections = 0\nmax_outbound_connections = 2`;
    const line = new Line(policy(0));
    for (let i = 0; i < 500; i++) line.acquire({ domain: `domain-${String(i % 250)}.example` });
    line.limiter.update(parsePolicy(policy(400)));
    await turn();
    await turn();
    expect(line.limiter.snapshot()).toMatchObject({ leases: 400, waiting: 100 });
    expect(line.held).toHaveLength(400);
  });

  it("finds the one request that can go among many that another limit blocks, and nobody overtakes it", async () => {
    const line = new Line(`
      server_max_outbound_connections = -1
      binding "b" { server_max_outbound_connections = 1 }
      ${Array.from({ length: 300 }, (_, i) => `domain "d${String(i)}.example" { scope_max_outbound_connections = 1 }`).join("\n")}`);
    const first = line.limiter.tryAcquire({ binding: "b", domain: "first.example" });
    for (let i = 0; i < 300; i++) {
      line.acquire({ binding: "other", domain: `d${String(i)}.example` });
      line.acquire({ binding: "b", domain: `d${String(i)}.example` });
    }
    line.acquire({ binding: "b", domain: "last.example" });
    await turn();
    expect(line.limiter.snapshot()).toMatchObject({ leases: 301, waiting: 301 });

    first?.release();
    expect(line.limiter.tryAcquire({ binding: "b", domain: "another.example" })).toBeUndefined();
    await turn();
    await turn();
    expect(line.admitted().at(-1)?.target).toMatchObject({ binding: "b", domain: "last.example" });
    expect(line.limiter.snapshot()).toMatchObject({ leases: 301, waiting: 300 });
  });
});
