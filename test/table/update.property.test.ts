// update under load: whatever happened before, it is as if the new policy had been there from the start.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createLimiter, type Lease, type LocalLimiter, parsePolicy, type Target } from "../../src/index.js";
import { VirtualClock } from "../model/clock.js";
import { queueOf } from "../model/table-model.js";
import { NOTHING, turn, watch } from "./open.js";
import { changing, contended, type World } from "./worlds.js";

const scale: number = Number(process.env["FUZZ_RUNS"] ?? 1000) / 1000;
const runs = (usual: number): { numRuns: number } => ({ numRuns: Math.max(1, Math.round(usual * scale)) });
const TIMEOUT = 600_000 * Math.max(1, scale);

type Step =
  | { readonly do: "acquire"; readonly target: number; readonly timeout: number }
  | { readonly do: "tryAcquire" | "release" | "abort" | "update"; readonly which: number }
  | { readonly do: "advance"; readonly by: number };

const which = fc.nat(1000);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant("acquire" as const),
      target: which,
      timeout: fc.constantFrom(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 10),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("tryAcquire" as const), which }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("release" as const), which }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("abort" as const), which }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("advance" as const), by: fc.constantFrom(1, 10) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("update" as const), which }) },
);

const policies: fc.Arbitrary<readonly [World, ...World[]]> = fc.oneof(
  { weight: 3, arbitrary: changing },
  {
    weight: 1,
    arbitrary: fc
      .tuple(contended, contended)
      .map(([first, second]): readonly [World, ...World[]] => [first, { ...second, targets: first.targets }]),
  },
);

/** A call of acquire, and the ways in which it has ended so far. */
interface Call {
  readonly target: Target;
  readonly controller: AbortController;
  readonly ends: (Lease | "refused")[];
}

const isWaiting = ({ ends }: Call): boolean => ends.length === 0;

/** Key, limit and use of each counter that is in use. */
type Counts = ReadonlyMap<string, { readonly limit: number; readonly inUse: number }>;

/** Counted one by one from what a limiter that holds nothing says of each target. */
function countsOf(held: readonly Target[], fresh: LocalLimiter): Counts {
  const counts = new Map<string, { limit: number; inUse: number }>();
  for (const { key, limit } of held.flatMap((target) => fresh.explain(target).limits)) {
    if (!Number.isFinite(limit) || limit < 0) continue;
    counts.set(key, { limit, inUse: (counts.get(key)?.inUse ?? 0) + 1 });
  }
  return counts;
}

function countsIn(limiter: LocalLimiter): Counts {
  const used = limiter.snapshot().counters.filter(({ inUse }) => inUse > 0);
  return new Map(used.map(({ key, limit, inUse }) => [key, { limit, inUse }]));
}

/** Whom the limiter holds slots for, oldest first. */
const heldIn = (limiter: LocalLimiter): Target[] => [...limiter.leases()].map(({ target }) => target);

function expectSame(what: string, actual: unknown, expected: unknown): void {
  expect(actual, what).toEqual(expected);
}

/** All that a snapshot says, in no order and apart from the time. */
function stateOf(limiter: LocalLimiter): unknown {
  const { leases, waiting, reserve, counters } = limiter.snapshot();
  const rows = counters.map(({ key, limit, inUse, waiting }) => ({ key, limit, inUse, waiting }));
  return { leases, waiting, reserve, counters: rows.toSorted((a, b) => (a.key < b.key ? -1 : 1)) };
}

class Load {
  /** Updates that could be compared with a limiter made anew, in everything. */
  compared = 0;
  readonly #clock = new VirtualClock();
  readonly #limiter: LocalLimiter;
  readonly #worlds: readonly [World, ...World[]];
  /** Holds nothing, and has the policy in force. */
  #empty: LocalLimiter;
  /** In order of arrival. */
  readonly #calls: Call[] = [];
  readonly #held: Lease[] = [];

  constructor(worlds: readonly [World, ...World[]]) {
    this.#worlds = worlds;
    const policy = parsePolicy(worlds[0].text);
    this.#limiter = createLimiter(policy, { clock: this.#clock, matchCacheSize: 2 });
    this.#empty = createLimiter(policy);
  }

  async play(steps: readonly Step[]): Promise<void> {
    for (const step of steps) {
      await this.#play(step);
      await turn();
      this.#checkCounts();
    }
  }

  /** Gives everything back; what still waits then is called off. */
  async end(): Promise<void> {
    for (let lease = this.#held.pop(); lease !== undefined; lease = this.#held.pop()) {
      lease.release();
      await turn();
    }
    for (const { controller } of this.#calls.filter(isWaiting)) controller.abort();
    await turn();
    for (const { target, ends } of this.#calls) expectSame(`the ends of ${queueOf(target)}`, ends.length, 1);
    const leases = this.#calls.flatMap(({ ends }) => ends.filter((end) => end !== "refused"));
    expectSame("leases that are nobody else's", new Set(leases).size, leases.length);
    const { waiting, counters, reserve } = this.#limiter.snapshot();
    expectSame("what is left", { leases: heldIn(this.#limiter).length, waiting, counters }, NOTHING);
    expectSame("the reserve in use", reserve.inUse, 0);
    expectSame("timers armed", this.#clock.armed, 0);
  }

  async #play(step: Step): Promise<void> {
    const waiting = this.#calls.filter(isWaiting);
    switch (step.do) {
      case "acquire":
        return this.#acquire(this.#target(step.target), step.timeout);
      case "tryAcquire": {
        const lease = this.#limiter.tryAcquire(this.#target(step.which));
        if (lease !== undefined) this.#held.push(lease);
        return;
      }
      case "release":
        return this.#held.splice(step.which % Math.max(1, this.#held.length), 1)[0]?.release();
      case "abort":
        return waiting[step.which % Math.max(1, waiting.length)]?.controller.abort();
      case "advance":
        return this.#clock.advance(step.by);
      case "update":
        return this.#update(this.#worlds[step.which % this.#worlds.length] as World);
    }
  }

  #target(at: number): Target {
    const { targets } = this.#worlds[0];
    return targets[at % targets.length] as Target;
  }

  #acquire(target: Target, timeout: number): void {
    const controller = new AbortController();
    const call: Call = { target, controller, ends: [] };
    this.#calls.push(call);
    this.#limiter.acquire(target, { timeout, signal: controller.signal }).then(
      (lease) => {
        call.ends.push(lease);
        this.#held.push(lease);
      },
      () => call.ends.push("refused"),
    );
  }

  /** Changes the policy here; and makes a limiter with the new one, that is asked for the same in the same order. */
  async #update(world: World): Promise<void> {
    const limiter = this.#limiter;
    const held = heldIn(limiter);
    const waiting = this.#calls.filter(isWaiting);
    const policy = parsePolicy(world.text);
    this.#empty = createLimiter(policy);
    limiter.update(policy);
    const atOnce = stateOf(limiter);
    await turn();
    expectSame("what update left, and what is there later", atOnce, stateOf(limiter));

    const fresh = createLimiter(policy, { clock: this.#clock });
    // More may be held than the new policy allows.
    if (!held.every((target) => fresh.tryAcquire(target) !== undefined)) return;
    const asked = waiting.map(({ target }) => watch(fresh.acquire(target)));
    await turn();
    const goes = asked.map(({ state }) => state === "resolved");
    expectSame(
      "who goes",
      waiting.map((call) => !isWaiting(call)),
      goes,
    );
    expectSame("the counts", atOnce, stateOf(fresh));
    const verdicts = (of: LocalLimiter): unknown => this.#worlds[0].targets.map((target) => of.explain(target).verdict);
    expectSame("who could go", verdicts(limiter), verdicts(fresh));
    this.compared++;
  }

  #checkCounts(): void {
    const held = this.#held.map(({ target }) => target);
    const { leases, waiting } = this.#limiter.snapshot();
    expectSame("who holds", heldIn(this.#limiter).map(queueOf).toSorted(), held.map(queueOf).toSorted());
    expectSame("how many", { leases, waiting }, { leases: held.length, waiting: this.#calls.filter(isWaiting).length });
    expectSame("the use of each counter", countsIn(this.#limiter), countsOf(held, this.#empty));
  }
}

describe("update under load", () => {
  it("leaves what a limiter made anew would show, and every request ends once", { timeout: TIMEOUT }, async () => {
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(policies, fc.array(step, { maxLength: 60, size: "max" }), async (worlds, steps) => {
        const load = new Load(worlds);
        await load.play(steps);
        await load.end();
        compared += load.compared;
      }),
      runs(200),
    );
    expect(compared, "updates compared in everything").toBeGreaterThan(0);
  });
});
