// Fairness between queues, where limits cross: laws 5 and 6 in random crowds, and the stories that broke them once.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Lease, LocalLimiter, Target } from "../../src/index.js";
import { Passes } from "../model/passes.js";
import { type Asked, type Holding, TableModel } from "../model/table-model.js";
import { Turns } from "../model/turns.js";
import { open, turn, watch } from "./open.js";
import { contended, type World, world } from "./worlds.js";

const scale: number = Number(process.env["FUZZ_RUNS"] ?? 1000) / 1000;
// Not shrunk: what is left of a long story is no shorter to read, and takes minutes.
const runs = (usual: number): { numRuns: number; endOnFailure: boolean } => ({
  numRuns: Math.max(1, Math.round(usual * scale)),
  endOnFailure: true,
});
const TIMEOUT = 600_000 * Math.max(1, scale);

/** In steps of a siege. */
const LONGEST_SESSION = 6;
/** Times a queue may be passed over before slots are kept for it. */
const PATIENCE = 16;

type Step =
  | { readonly ask: number }
  | { readonly release: number }
  | { readonly spite: number }
  | { readonly leave: number };

const index = fc.nat(1000);
const ask: fc.Arbitrary<Step> = fc.record({ ask: index });
const release: fc.Arbitrary<Step> = fc.record({ release: index });
const leave: fc.Arbitrary<Step> = fc.record({ leave: index });

const steps = (maxLength: number): fc.Arbitrary<Step[]> =>
  fc.array(
    fc.oneof({ weight: 12, arbitrary: ask }, { weight: 10, arbitrary: release }, { weight: 1, arbitrary: leave }),
    { maxLength, size: "max" },
  );

/**
 * Lines that stay as long as they are: whoever is released asks again before, and nobody leaves. What is released does
 * not let in who has waited longest for two limits, if anything else can be.
 */
const siege: fc.Arbitrary<Step[]> = fc
  .tuple(
    fc.array(ask, { minLength: 40, maxLength: 40 }),
    fc.array(fc.record({ spite: index }), { minLength: 800, maxLength: 800, size: "max" }),
  )
  .map(([first, then]) => [...first, ...then]);

/** A small server with a reserve, and domains with several hosts each, of which one at a time may use it. */
const reserved: fc.Arbitrary<World> = fc
  .record({
    server: fc.integer({ min: 1, max: 3 }),
    reserve: fc.integer({ min: 1, max: 3 }),
    domains: fc.integer({ min: 1, max: 3 }),
    hosts: fc.integer({ min: 1, max: 3 }),
  })
  .map(({ server, reserve, domains, hosts }) => {
    const ceiling = { option: "server_max_outbound_connections", line: 1, limit: server } as const;
    return {
      text: [
        `${ceiling.option} = ${String(server)}`,
        `server_reserve_outbound_connections = ${String(reserve)}`,
        "max_outbound_connections = -1",
      ].join("\n"),
      reserve,
      targets: Array.from({ length: domains * hosts }, (_, at) => ({
        domain: `name-${String(at % domains)}.example`,
        host: `mx${String(Math.floor(at / domains))}.example`,
      })),
      claims: () => [{ ...ceiling, counter: "server", lifted: true }],
    };
  });

/** A crowd at a limiter, and the model that is told who was admitted, in order, and judges whose turn it was. */
class Crowd {
  readonly #limiter: LocalLimiter;
  readonly #world: World;
  readonly #model: TableModel;
  readonly #turns: Turns;
  readonly #passes: Passes;
  readonly #leases = new Map<Asked, Lease>();
  readonly #controllers = new Map<Asked, AbortController>();
  #admitted: Asked[] = [];
  #steps = 0;

  constructor(world: World) {
    this.#world = world;
    ({ limiter: this.#limiter } = open(world.text));
    this.#model = new TableModel(world);
    this.#turns = new Turns(this.#model);
    // Passed over for a session or less each time; and as long again while slots are kept for others first.
    this.#passes = new Passes(this.#model, 2 * PATIENCE * LONGEST_SESSION);
  }

  async play(steps: readonly Step[]): Promise<void> {
    for (const step of steps) {
      this.#steps++;
      if ("ask" in step) this.#ask(this.#world.targets[step.ask % this.#world.targets.length] as Target);
      else if ("release" in step) this.#release(this.#model.held, step.release);
      else if ("spite" in step) this.#replace(this.#useless(), step.spite);
      else this.#leave(step.leave);
      await turn();
      this.#settle();
    }
  }

  #ask(target: Target): void {
    const asked = this.#model.arrive(target, 0);
    const controller = new AbortController();
    this.#controllers.set(asked, controller);
    this.#limiter.acquire(target, { signal: controller.signal }).then(
      (lease) => {
        this.#leases.set(asked, lease);
        this.#admitted.push(asked);
      },
      () => undefined,
    );
  }

  /** What is held and, given back, does not let in who has waited longest for two limits. Nothing is held for ever. */
  #useless(): readonly Holding[] {
    const { held } = this.#model;
    const oldest = held[0];
    if (oldest !== undefined && this.#steps - oldest.since > LONGEST_SESSION) return [oldest];
    const blockedBy =
      this.#model
        .heads()
        .map(({ target }) => this.#model.blockers(target))
        .find(({ length }) => length > 1) ?? [];
    const useless = held.filter(({ asked }) => {
      const frees = this.#model.claims(asked.target).map(({ counter }) => counter);
      return !blockedBy.every(({ counter }) => frees.includes(counter));
    });
    return useless.length > 0 ? useless : held;
  }

  #replace(held: readonly Holding[], at: number): void {
    const holding = held[at % Math.max(1, held.length)];
    if (holding !== undefined) this.#ask(holding.asked.target);
    this.#release(held, at);
  }

  #release(held: readonly Holding[], at: number): void {
    const holding = held[at % Math.max(1, held.length)];
    if (holding === undefined) return;
    this.#leases.get(holding.asked)?.release();
    this.#model.drop(holding);
    this.#passes.free(holding.asked.target);
  }

  #leave(at: number): void {
    const { waiting } = this.#model;
    const asked = waiting[at % Math.max(1, waiting.length)];
    if (asked === undefined) return;
    this.#model.leave(asked);
    if (!this.#model.exact || asked.passed > 0) this.#model.pass(asked.target);
    this.#controllers.get(asked)?.abort();
  }

  #settle(): void {
    const left = new Set(this.#admitted);
    for (const asked of this.#admitted) {
      left.delete(asked);
      this.#turns.serve(asked, left);
      this.#model.settle([asked], this.#steps);
      // What was kept for it, and it did not need any more, was given back.
      if (!this.#model.exact || asked.passed > 0) this.#model.pass(asked.target);
    }
    this.#admitted = [];
    this.#model.checkNoSlotIdles();
    this.#turns.settle();
    this.#passes.settle();
  }
}

describe("a crowd at crossing limits", () => {
  it("is served in turn: nobody twice while a queue waits that could go", { timeout: TIMEOUT }, async () => {
    await fc.assert(
      fc.asyncProperty(world, steps(150), async (world, steps) => {
        await new Crowd(world).play(steps);
      }),
      runs(150),
    );
  });

  it("is served in turn where some need two busy limits", { timeout: TIMEOUT }, async () => {
    await fc.assert(
      fc.asyncProperty(contended, steps(300), async (world, steps) => {
        await new Crowd(world).play(steps);
      }),
      runs(40),
    );
  });

  it("is served in turn where some may use a reserve", { timeout: TIMEOUT }, async () => {
    await fc.assert(
      fc.asyncProperty(reserved, steps(100), async (world, steps) => {
        await new Crowd(world).play(steps);
      }),
      runs(100),
    );
  });

  it("starves nobody, while others never cease to ask", { timeout: TIMEOUT }, async () => {
    await fc.assert(
      fc.asyncProperty(contended, siege, async (world, steps) => {
        await new Crowd(world).play(steps);
      }),
      runs(15),
    );
  });
});

/** Requests that are made all at once; whoever is admitted holds its lease until it is released. */
class Flood {
  readonly limiter: LocalLimiter;
  readonly held: Lease[] = [];
  /** In the order in which they were admitted. */
  readonly served: Target[] = [];

  constructor(policy: string) {
    ({ limiter: this.limiter } = open(policy));
  }

  ask(target: Target, times: number): void {
    for (let i = 0; i < times; i++) {
      void this.limiter.acquire(target).then((lease) => {
        this.held.push(lease);
        this.served.push(target);
      });
    }
  }

  /** The lease longest held whose domain it is. */
  async release(domain: string): Promise<void> {
    const at = this.held.findIndex(({ target }) => target.domain === domain);
    this.held.splice(at, 1)[0]?.release();
    await turn();
  }
}

describe("a flood", () => {
  it.each([
    ["each at its own limit", "max_outbound_connections = 2"],
    [
      "each at a limit over all bindings",
      'domain "/^(gmail\\.com|orange\\.fr)$/" { max_outbound_connections = 2 }\ndomain "gmail.com" { scope_max_outbound_connections = 2 }',
    ],
  ])("two flooded domains that fill the server, %s, do not keep a third one out", async (_, limits) => {
    const flood = new Flood(`server_max_outbound_connections = 4\nserver_reserve_outbound_connections = 0\n${limits}`);
    const flooded = ["gmail.com", "orange.fr"];
    for (const domain of flooded) flood.ask({ domain }, 50);
    const small = watch(flood.limiter.acquire({ domain: "small.example" }));
    await turn();
    for (let i = 0; i < 3; i++) await flood.release(flooded[i % 2] ?? "");
    expect(small.state).toBe("resolved");
  });

  it("a domain that is flooded while it waits for its own limit takes turns with the others at the server's", async () => {
    const flood = new Flood(`
      server_max_outbound_connections = 3
      server_reserve_outbound_connections = 0
      max_outbound_connections = 1`);
    for (const domain of ["a.example", "b.example", "c.example", "d.example", "e.example"]) flood.ask({ domain }, 20);
    await turn();
    for (let i = 0; i < 60; i++) await flood.release(flood.held[0]?.target.domain ?? "");
    const counts = new Map<string, number>();
    for (const { domain } of flood.served) counts.set(domain, (counts.get(domain) ?? 0) + 1);
    expect(counts.size).toBe(5);
    expect(Math.max(...counts.values()) - Math.min(...counts.values())).toBeLessThanOrEqual(2);
  });

  it("one that may use the reserve again and again does not take every ordinary slot", async () => {
    const flood = new Flood(`
      server_max_outbound_connections = 2
      server_reserve_outbound_connections = 1
      max_outbound_connections = -1`);
    flood.limiter.tryAcquire({ domain: "gmail.com" });
    flood.ask({ domain: "small.example" }, 50);
    const waiting = watch(flood.limiter.acquire({ domain: "gmail.com" }));
    await turn();
    await flood.release("small.example");
    // Both go: one into the ordinary slot, one into the reserve.
    expect(waiting.state).toBe("resolved");
    expect(flood.limiter.snapshot()).toMatchObject({ leases: 3, reserve: { inUse: 1 } });
  });

  it.each([1, 2, 3])("the hosts of a domain take turns in a reserve of %d", async (reserve) => {
    const flood = new Flood(`
      server_max_outbound_connections = 1
      server_reserve_outbound_connections = ${String(reserve)}
      max_outbound_connections = -1`);
    flood.limiter.tryAcquire({ domain: "gmail.com" });
    const hosts = ["mx1.example", "mx2.example", "mx3.example"];
    for (const host of hosts) flood.ask({ domain: "small.example", host }, 10);
    await turn();
    for (let i = 0; i < 12; i++) await flood.release("small.example");
    // The very first did not have to wait.
    const order = flood.served.slice(1).map(({ host }) => host);
    expect(order).toEqual(order.map((_, i) => order[i % 3]));
    expect(new Set(order).size).toBe(3);
  });
});
