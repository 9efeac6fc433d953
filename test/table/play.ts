// Plays a sequence of operations on a limiter and on the model, and compares the two after each.
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import {
  AcquireTimeoutError,
  createLimiter,
  type Lease,
  LimiterClosedError,
  type LocalLimiter,
  type Milliseconds,
  parsePolicy,
  QueueFullError,
  type Target,
} from "../../src/index.js";
import { VirtualClock } from "../model/clock.js";
import { type Asked, type Holding, queueOf, TableModel } from "../model/table-model.js";
import { turn } from "./open.js";
import type { World } from "./worlds.js";

export type Step =
  | {
      readonly do: "acquire";
      readonly target: number;
      readonly timeout?: Milliseconds;
      readonly signal?: "own" | "shared";
    }
  | { readonly do: "tryAcquire"; readonly target: number }
  | { readonly do: "run"; readonly target: number }
  | { readonly do: "finish"; readonly run: number; readonly how: "return" | "throw" }
  | { readonly do: "release"; readonly lease: number; readonly how: "method" | "detached" | "dispose" }
  | { readonly do: "releaseAgain"; readonly lease: number }
  | { readonly do: "abort"; readonly signal: number }
  | { readonly do: "releaseThenAbort"; readonly lease: number; readonly signal: number }
  | { readonly do: "advance"; readonly by: Milliseconds; readonly how: "jump" | "step" }
  | { readonly do: "explain"; readonly target: number }
  | { readonly do: "update"; readonly policy: number };

const index = fc.nat(1000);

const acquire: fc.Arbitrary<Step> = fc.record(
  {
    do: fc.constant("acquire" as const),
    target: index,
    timeout: fc.constantFrom(0, 1, 10, 10, 25, Infinity),
    signal: fc.constantFrom("own" as const, "own" as const, "shared" as const),
  },
  { requiredKeys: ["do", "target"] },
);

const others: readonly fc.WeightedArbitrary<Step>[] = [
  { weight: 3, arbitrary: fc.record({ do: fc.constant("tryAcquire" as const), target: index }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("run" as const), target: index }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("finish" as const),
      run: index,
      how: fc.constantFrom("return" as const, "throw" as const),
    }),
  },
  {
    weight: 7,
    arbitrary: fc.record({
      do: fc.constant("release" as const),
      lease: index,
      how: fc.constantFrom("method" as const, "detached" as const, "dispose" as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("releaseAgain" as const), lease: index }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("abort" as const), signal: index }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("releaseThenAbort" as const), lease: index, signal: index }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("advance" as const),
      by: fc.constantFrom(1, 5, 10, 30),
      how: fc.constantFrom("jump" as const, "step" as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("explain" as const), target: index }) },
];

/** What a user of the limiter may do, in any order. */
export const steps = (maxLength: number): fc.Arbitrary<Step[]> =>
  fc.array(fc.oneof({ weight: 12, arbitrary: acquire }, ...others), { maxLength, size: "max" });

/** So much of the same few targets that a line forms behind every limit and stays. */
export const rush: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 22, arbitrary: fc.record({ do: fc.constant("acquire" as const), target: index }) },
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant("acquire" as const),
        target: index,
        timeout: fc.constantFrom(40, Infinity),
        signal: fc.constantFrom("own" as const, "own" as const, "shared" as const),
      }),
    },
    {
      weight: 20,
      arbitrary: fc.record({
        do: fc.constant("release" as const),
        lease: index,
        how: fc.constantFrom("method" as const, "detached" as const, "dispose" as const),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("tryAcquire" as const), target: index }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("abort" as const), signal: index }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant("releaseThenAbort" as const), lease: index, signal: index }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant("advance" as const),
        by: fc.constant(1),
        how: fc.constantFrom("jump" as const, "step" as const),
      }),
    },
  ),
  { minLength: 200, maxLength: 500, size: "max" },
);

/** The same, and the policy changes now and then. */
export const stepsWithUpdates: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof({ weight: 12, arbitrary: acquire }, ...others, {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("update" as const), policy: index }),
  }),
  { maxLength: 50, size: "max" },
);

export interface Sizes {
  readonly maxWaiting: number;
  readonly matchCacheSize: number;
}

/** So few names in the match cache that what a lease or a waiting request uses is evicted under it. */
export const sizes: fc.Arbitrary<Sizes> = fc.record({
  maxWaiting: fc.constantFrom(100, 100, 100, 3),
  matchCacheSize: fc.constantFrom(1, 2, 64),
});

interface Request {
  readonly asked: Asked;
  readonly deadline: Milliseconds;
  readonly controller: AbortController | undefined;
  lease: Lease | undefined;
  /** Of a `run`: ends its work. */
  finish: ((how: "return" | "throw") => void) | undefined;
}

/** What may become of a request in this step other than a lease or waiting on. */
interface Fate {
  /** "must" be refused, "may" be refused, or was handed its slots in this tick: refused or delivered, but "settled". */
  readonly how: "must" | "may" | "settled";
  readonly check: (error: unknown, request: Request) => void;
}

/** A step that has happened and has yet to be compared. */
interface Outcome {
  readonly fates?: ReadonlyMap<Request, Fate>;
  /** The request that gives its slots back in the same tick in which it was handed them. */
  readonly ghost?: Request;
  /** The table changes in a later microtask, so what it shows at once is not compared. */
  readonly late?: boolean;
}

const pick = <T>(from: readonly T[], at: number): T | undefined => from[at % Math.max(1, from.length)];

function ensure(law: string, holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`${law}: ${what}`);
}

export class Play {
  readonly clock: VirtualClock = new VirtualClock();
  readonly limiter: LocalLimiter;
  readonly model: TableModel;
  /** How many operations were compared exactly, and how many while some request may have kept slots. */
  readonly compared: { exact: number; within: number } = { exact: 0, within: 0 };
  readonly #worlds: readonly [World, ...World[]];
  readonly #maxWaiting: number;
  readonly #targets: readonly Target[];
  readonly #requests = new Map<Asked, Request>();
  readonly #controllers: AbortController[] = [];
  #shared = new AbortController();
  readonly #released: Lease[] = [];
  readonly #settled: { request: Request; lease?: Lease; error?: unknown }[] = [];
  readonly #finished = new Set<Request>();

  constructor(worlds: readonly [World, ...World[]], { maxWaiting, matchCacheSize }: Sizes) {
    this.#worlds = worlds;
    this.#targets = worlds[0].targets;
    this.#maxWaiting = maxWaiting;
    this.model = new TableModel(worlds[0]);
    this.limiter = createLimiter(parsePolicy(worlds[0].text), {
      clock: this.clock,
      maxWaiting,
      matchCacheSize,
    });
    this.#explainAll();
  }

  async play(steps: readonly Step[]): Promise<void> {
    for (const step of steps) await this.#play(step);
  }

  /** Gives everything back by releasing and aborting alone, or by closing; either way nothing may be left. */
  async end(how: "drain" | "close"): Promise<void> {
    for (const controller of how === "drain" ? this.#controllers : []) await this.#abort(controller);
    while (how === "drain" && this.model.held.length > 0) await this.#giveBack(this.model.held[0], "method");

    const fates = new Map<Request, Fate>();
    const check = (error: unknown): void => {
      ensure("close", error instanceof LimiterClosedError, `a waiting request is refused with ${String(error)}`);
    };
    for (const asked of this.model.waiting) fates.set(this.#request(asked), { how: "must", check });
    let closed = false;
    const closing = this.limiter.close().then(() => (closed = true));
    await this.#compare({ fates });
    while (this.model.held.length > 0) {
      ensure("close", !closed, "resolved while leases are out");
      await this.#giveBack(this.model.held[0], "method");
    }
    await closing;
    const { leases, waiting, counters } = this.limiter.snapshot();
    ensure("Counters vanish", leases === 0 && waiting === 0, `${String(leases)} leases, ${String(waiting)} waiting`);
    ensure("Counters vanish", counters.length === 0, counters.map(({ key }) => key).join(", "));
    ensure("Counters vanish", this.clock.armed === 0, `${String(this.clock.armed)} timers are armed`);
  }

  async #play(step: Step): Promise<void> {
    switch (step.do) {
      case "acquire":
        return this.#acquire(this.#target(step.target), step.timeout ?? Infinity, step.signal);
      case "tryAcquire":
        return this.#tryAcquire(this.#target(step.target));
      case "run":
        return this.#run(this.#target(step.target));
      case "finish":
        return this.#finish(step.run, step.how);
      case "release":
        return this.#giveBack(pick(this.model.held, step.lease), step.how);
      case "releaseAgain":
        return this.#releaseAgain(pick(this.#released, step.lease));
      case "abort":
        return this.#abort(pick(this.#controllers, step.signal));
      case "releaseThenAbort":
        return this.#releaseThenAbort(pick(this.model.held, step.lease), step.signal);
      case "advance":
        return this.#advance(step.by, step.how);
      case "explain":
        return this.#explain(this.#target(step.target));
      case "update":
        return this.#update(step.policy);
    }
  }

  #target(at: number): Target {
    const target = pick(this.#targets, at);
    ensure("Play", target !== undefined, "there are no targets");
    return target;
  }

  #request(asked: Asked): Request {
    const request = this.#requests.get(asked);
    ensure("Play", request !== undefined, "a request is unknown");
    return request;
  }

  #arrive(target: Target, timeout: Milliseconds, controller?: AbortController): Request {
    const now = this.clock.now();
    const asked = this.model.arrive(target, now);
    const request: Request = { asked, deadline: now + timeout, controller, lease: undefined, finish: undefined };
    this.#requests.set(asked, request);
    return request;
  }

  /** Why a request that asks now would be refused, and whether it is certain. */
  #refusal(target: Target, timeout: Milliseconds, controller?: AbortController): Fate | undefined {
    if (controller?.signal.aborted === true) return { how: "must", check: aborted };
    const queued = this.model.waiting.some((asked) => queueOf(asked.target) === queueOf(target));
    if (!queued && this.model.admission(target, this.model.keepers()) !== undefined) return undefined;
    const how = queued || this.model.admission(target) === undefined ? "must" : "may";
    const full = this.model.waiting.length >= this.#maxWaiting;
    const waiting = this.model.waiting.length;
    if (timeout > 0 && !full) return undefined;
    return {
      how,
      check: (error, request) => {
        if (full && error instanceof QueueFullError) {
          ensure("QueueFullError", error.code === "ERR_LIMITER_QUEUE_FULL" && error.waiting === waiting, String(error));
        } else {
          ensure("acquire", timeout === 0, `is refused with ${String(error)}`);
          this.#timedOut(error, request, 0);
        }
      },
    };
  }

  #timedOut(error: unknown, { asked }: Request, waited: Milliseconds): void {
    ensure("timeout", error instanceof AcquireTimeoutError, `is refused with ${String(error)}`);
    ensure("timeout", error.code === "ERR_LIMITER_TIMEOUT", error.code);
    ensure("timeout", error.waited === waited, `waited ${String(error.waited)} ms, not ${String(waited)}`);
    if (!this.model.exact) return;
    const at = (option: string, line: number | undefined): string => `${option} at ${String(line)}`;
    const blockedBy = error.blockedBy.map(({ option, setAt }) => at(option, setAt?.line));
    const blockers = this.model.blockers(asked.target).map(({ option, line }) => at(option, line));
    const full = this.model.full(asked.target).map(({ option, line }) => at(option, line));
    const right =
      blockers.every((limit) => blockedBy.includes(limit)) && blockedBy.every((limit) => full.includes(limit));
    ensure("timeout", right && new Set(blockedBy).size === blockedBy.length, `blocked by ${blockedBy.join()}`);
  }

  async #acquire(target: Target, timeout: Milliseconds, signal?: "own" | "shared"): Promise<void> {
    let controller: AbortController | undefined;
    if (signal === "own") controller = new AbortController();
    if (signal === "shared") controller = this.#shared;
    if (controller !== undefined && !this.#controllers.includes(controller)) this.#controllers.push(controller);

    const fate = this.#refusal(target, timeout, controller);
    const request = this.#arrive(target, timeout, controller);
    this.limiter.acquire(target, { timeout, signal: controller?.signal }).then(
      (lease) => this.#settled.push({ request, lease }),
      (error: unknown) => this.#settled.push({ request, error }),
    );
    await this.#compare({ fates: new Map(fate && [[request, fate]]) });
  }

  async #tryAcquire(target: Target): Promise<void> {
    const { verdict } = this.limiter.explain(target);
    const before = this.limiter.snapshot();
    const lease = this.limiter.tryAcquire(target);
    if (lease === undefined) {
      ensure("tryAcquire", verdict === "wait", `was refused where explain() said "${verdict}"`);
      ensure("tryAcquire", isDeepStrictEqual(before, this.limiter.snapshot()), "was refused and changed something");
    } else {
      ensure("tryAcquire", verdict !== "wait", 'was admitted where explain() said "wait"');
      this.#settled.push({ request: this.#arrive(target, 0), lease });
    }
    await this.#compare({});
  }

  async #run(target: Target): Promise<void> {
    const fate = this.#refusal(target, Infinity);
    const request = this.#arrive(target, Infinity);
    const failure = new Error("the work failed");
    const result = this.limiter.run(target, async (lease) => {
      this.#settled.push({ request, lease });
      const how = await new Promise<"return" | "throw">((resolve) => {
        request.finish = resolve;
      });
      if (how === "throw") throw failure;
      return request;
    });
    result.then(
      (value) => {
        ensure("run", value === request, "resolved to something else than its work");
        this.#finished.add(request);
      },
      (error: unknown) => {
        if (request.finish === undefined) this.#settled.push({ request, error });
        else if (error === failure) this.#finished.add(request);
      },
    );
    await this.#compare({ fates: new Map(fate && [[request, fate]]), late: true });
  }

  async #finish(at: number, how: "return" | "throw"): Promise<void> {
    const holding = pick(
      this.model.held.filter(({ asked }) => this.#request(asked).finish !== undefined),
      at,
    );
    if (holding === undefined) return;
    await this.#finishRun(holding, how);
  }

  async #finishRun(holding: Holding, how: "return" | "throw"): Promise<void> {
    const request = this.#request(holding.asked);
    request.finish?.(how);
    this.model.drop(holding);
    await this.#compare({ late: true });
    ensure("run", this.#finished.has(request), "did not settle as its work did");
  }

  async #giveBack(holding: Holding | undefined, how: "method" | "detached" | "dispose"): Promise<void> {
    if (holding === undefined) return;
    const request = this.#request(holding.asked);
    if (request.finish !== undefined) return this.#finishRun(holding, "return");
    this.#release(holding, how);
    await this.#compare({});
  }

  #release(holding: Holding, how: "method" | "detached" | "dispose"): void {
    const { lease } = this.#request(holding.asked);
    ensure("Play", lease !== undefined, "a holder has no lease");
    const { release } = lease;
    if (how === "method") lease.release();
    if (how === "detached") release();
    if (how === "dispose") lease[Symbol.dispose]();
    this.#released.push(lease);
    this.model.drop(holding);
  }

  async #releaseAgain(lease: Lease | undefined): Promise<void> {
    if (lease === undefined) return;
    const before = this.limiter.snapshot();
    lease.release();
    lease[Symbol.dispose]();
    ensure("release", isDeepStrictEqual(before, this.limiter.snapshot()), "did something the second time");
    await this.#compare({});
  }

  #waitingOn(controller: AbortController): readonly Request[] {
    return this.model.waiting
      .map((asked) => this.#request(asked))
      .filter((request) => request.controller === controller);
  }

  /** These leave in one tick. One that leaves may let another of them go, if it had kept slots. */
  #certainly(leaving: readonly Request[]): Fate["how"] {
    return this.model.exact || leaving.length === 1 ? "must" : "settled";
  }

  async #abort(controller: AbortController | undefined): Promise<void> {
    if (controller === undefined || controller.signal.aborted) return;
    const requests = this.#waitingOn(controller);
    const fate: Fate = { how: this.#certainly(requests), check: aborted };
    controller.abort({ reason: "of the test" });
    if (!this.model.exact) for (const { asked } of requests) this.model.pass(asked.target);
    await this.#compare({ fates: new Map(requests.map((request) => [request, fate])) });
  }

  async #releaseThenAbort(holding: Holding | undefined, at: number): Promise<void> {
    const waiting = this.#controllers.filter((controller) => this.#waitingOn(controller).length === 1);
    const controller = pick(waiting, at);
    const ghost = controller && this.#waitingOn(controller)[0];
    if (holding === undefined || controller === undefined || ghost === undefined) return;
    if (this.#request(holding.asked).finish !== undefined) return;
    this.#release(holding, "method");
    controller.abort({ reason: "of the test" });
    this.model.pass(ghost.asked.target);
    await this.#compare({ fates: new Map([[ghost, { how: "settled", check: aborted }]]), ghost, late: true });
  }

  async #advance(by: Milliseconds, how: "jump" | "step"): Promise<void> {
    const end = this.clock.now() + by;
    while (this.clock.now() < end) {
      const deadlines = this.model.waiting.map((asked) => this.#request(asked).deadline);
      // A jump over several deadlines; where leaving may let others go, the model needs to know when.
      const to = how === "jump" && this.model.exact ? end : Math.min(end, ...deadlines);
      const due = this.model.waiting.map((asked) => this.#request(asked)).filter(({ deadline }) => deadline <= to);
      const check = (error: unknown, request: Request): void => {
        this.#timedOut(error, request, request.deadline - request.asked.since);
      };
      const fate: Fate = { how: this.#certainly(due), check };
      this.clock.advance(to - this.clock.now());
      if (!this.model.exact) for (const { asked } of due) this.model.pass(asked.target);
      await this.#compare({ fates: new Map(due.map((request) => [request, fate])) });
    }
  }

  async #explain(target: Target): Promise<void> {
    const before = this.limiter.snapshot();
    const explanation = this.limiter.explain(target);
    ensure("explain", isDeepStrictEqual(before, this.limiter.snapshot()), "changed something");
    this.model.checkExplanation(explanation, this.clock.now());
    await this.#compare({});
  }

  async #update(policy: number): Promise<void> {
    const world = pick(this.#worlds, policy);
    ensure("Play", world !== undefined, "there is no policy");
    this.limiter.update(parsePolicy(world.text));
    this.model.change(world);
    // The first look teaches the model the keys, and whoever fits now must be in already.
    await this.#compare({}, () => this.#explainAll());
    for (const { target } of this.model.waiting) this.model.pass(target);
  }

  #explainAll(): void {
    for (const target of this.#targets) {
      this.model.checkExplanation(this.limiter.explain(target), this.clock.now());
    }
  }

  async #compare({ fates, ghost, late }: Outcome, learn?: () => void): Promise<void> {
    const { model, limiter } = this;
    const now = this.clock.now();
    const atOnce = late === true ? undefined : limiter.snapshot();
    await turn();

    const admitted: Asked[] = [];
    const refused = new Set<Request>();
    for (const { request, lease, error } of this.#settled.splice(0)) {
      if (lease !== undefined) {
        const waited = now - request.asked.since;
        ensure("lease.waited", lease.waited === waited, `${String(lease.waited)} ms, not ${String(waited)}`);
        ensure("lease.lost", !lease.lost.aborted, queueOf(lease.target));
        ensure("lease.target", queueOf(lease.target) === queueOf(request.asked.target), queueOf(lease.target));
        request.lease = lease;
        admitted.push(request.asked);
      } else {
        const fate = fates?.get(request);
        ensure("acquire", fate !== undefined, `${queueOf(request.asked.target)} was refused: ${String(error)}`);
        fate.check(error, request);
        refused.add(request);
        if (request !== ghost) model.leave(request.asked);
      }
    }
    for (const [request, { how }] of fates ?? []) {
      const queue = queueOf(request.asked.target);
      if (how === "must") ensure("acquire", refused.has(request), `${queue} should have been refused`);
      if (how === "settled") {
        ensure("Leaving", refused.has(request) || request.lease !== undefined, `${queue} neither left nor went`);
      }
    }
    model.settle(admitted, now, ghost !== undefined && refused.has(ghost) ? ghost.asked : undefined);
    learn?.();

    model.checkNoSlotIdles();
    if (atOnce !== undefined) model.checkSnapshot(atOnce, now);
    model.checkSnapshot(limiter.snapshot(), now);
    model.checkLeases(limiter.leases(), now);
    const compared = this.compared.exact + this.compared.within;
    const looked = compared % 3 === 0 ? pick(this.#targets, compared / 3) : undefined;
    if (looked !== undefined) model.checkExplanation(limiter.explain(looked), now);
    if (model.held.length + model.waiting.length === 0) {
      ensure("Counters vanish", this.clock.armed === 0, `${String(this.clock.armed)} timers are armed`);
    }
    this.compared[model.exact ? "exact" : "within"]++;
  }
}

function aborted(error: unknown, { controller }: Request): void {
  ensure("abort", error === controller?.signal.reason, `is refused with ${String(error)}`);
}
