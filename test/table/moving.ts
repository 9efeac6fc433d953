// Plays requests for any of several targets, leases that move and leases that are idle on a real limiter, and looks after
// each step whether what is held is what was admitted.
import assert from "node:assert/strict";
import { createLimiter, type Lease, type LocalLimiter, parsePolicy, type Target } from "../../src/index.js";
import { turn } from "./open.js";
import type { World } from "./worlds.js";

export type Step =
  | { readonly kind: "acquire" | "try"; readonly at: number }
  | { readonly kind: "any"; readonly at: readonly number[] }
  | { readonly kind: "release" | "abort" | "idle" | "busy"; readonly at: number }
  | { readonly kind: "move"; readonly at: number; readonly to: number }
  | { readonly kind: "update"; readonly at: number };

interface Waiting {
  readonly targets: readonly Target[];
  readonly controller: AbortController;
  answers: number;
}

export class MovingPlay {
  readonly #worlds: readonly World[];
  #world: World;
  readonly #limiter: LocalLimiter;
  readonly #leases: Lease[] = [];
  readonly #idle = new Set<Lease>();
  readonly #waiting = new Set<Waiting>();
  #isOver = false;

  constructor(worlds: readonly World[]) {
    this.#worlds = worlds;
    this.#world = worlds[0] as World;
    this.#limiter = createLimiter(parsePolicy(this.#world.text));
  }

  async play(steps: readonly Step[]): Promise<void> {
    for (const step of steps) {
      await this.#do(step);
      await turn();
      this.#check();
    }
    this.#isOver = true;
    for (const waiting of [...this.#waiting]) waiting.controller.abort();
    await turn();
    for (const lease of this.#leases.splice(0)) lease.release();
    await turn();
    const { leases, waiting, reserve, counters } = this.#limiter.snapshot();
    assert.deepEqual([leases, waiting, reserve.inUse, counters], [0, 0, 0, []]);
  }

  async #do(step: Step): Promise<void> {
    const { targets } = this.#world;
    const target = (at: number): Target => targets[at % targets.length] as Target;
    const lease = typeof step.at === "number" ? this.#leases[step.at % Math.max(1, this.#leases.length)] : undefined;
    switch (step.kind) {
      case "try": {
        const got = this.#limiter.tryAcquire(target(step.at));
        if (got !== undefined) this.#leases.push(got);
        return;
      }
      case "acquire":
        return this.#wait([target(step.at)]);
      case "any":
        return this.#wait(step.at.map(target));
      case "release":
        if (lease !== undefined) this.#end(lease);
        return;
      case "idle":
        if (lease !== undefined) this.#idle.add(lease);
        lease?.idle(() => this.#end(lease));
        return;
      case "busy":
        if (lease !== undefined) this.#idle.delete(lease);
        lease?.busy();
        return;
      case "abort": {
        const all = [...this.#waiting];
        all[step.at % Math.max(1, all.length)]?.controller.abort();
        return;
      }
      case "move":
        return lease && this.#move(lease, target(step.to));
      case "update":
        this.#world = this.#worlds[step.at % this.#worlds.length] as World;
        this.#limiter.update(parsePolicy(this.#world.text));
    }
  }

  #wait(targets: readonly Target[]): void {
    const waiting: Waiting = { targets, controller: new AbortController(), answers: 0 };
    this.#waiting.add(waiting);
    const answer = (): void => {
      waiting.answers++;
      this.#waiting.delete(waiting);
      assert.deepEqual(waiting.answers, 1);
    };
    const { signal } = waiting.controller;
    const asked =
      targets.length === 1
        ? this.#limiter.acquire(targets[0] as Target, { signal })
        : this.#limiter.acquireAny(targets, { signal });
    asked.then(
      (lease) => {
        answer();
        assert.ok(targets.includes(lease.target));
        this.#leases.push(lease);
        if (this.#isOver) lease.release();
      },
      (error: Error) => {
        answer();
        assert.deepEqual(error.name, "AbortError");
      },
    );
  }

  #end(lease: Lease): void {
    const at = this.#leases.indexOf(lease);
    if (at >= 0) this.#leases.splice(at, 1);
    this.#idle.delete(lease);
    lease.release();
  }

  async #move(lease: Lease, target: Target): Promise<void> {
    const before = this.#limiter.snapshot();
    const from = lease.target;
    const held = new Set(this.#countersOf(lease));
    const wanted = this.#limiter.explain(target).limits;
    const hasRoom = wanted.every(({ key, inUse, limit }) => held.has(key) || inUse < limit);
    const moving = lease.move(target);
    // Decided at once, where all is in one process.
    const isMoved = same(from, target) || lease.target !== from;
    if (lease.target !== from) this.#idle.delete(lease); // in use again
    assert.deepEqual(await moving, isMoved);
    if (!isMoved) {
      // It may be refused out of regard for those passed over too often, or those cut short.
      assert.deepEqual(lease.target, from);
      const after = this.#limiter.snapshot();
      const uses = ({ counters }: typeof after) => counters.map(({ key, inUse }) => [key, inUse]);
      assert.deepEqual(uses(after), uses(before));
      if (this.#waiting.size === 0) assert.deepEqual(hasRoom, false);
    } else {
      assert.deepEqual(new Set(this.#countersOf(lease)), new Set(wanted.map(({ key }) => key)));
      if (before.reserve.limit === 0 && !same(from, target)) assert.deepEqual(hasRoom, true);
    }
  }

  #countersOf(lease: Lease): readonly string[] {
    return [...this.#limiter.leases()].find(({ target }) => target === lease.target)?.counters ?? [];
  }

  #check(): void {
    const snapshot = this.#limiter.snapshot();
    assert.deepEqual(snapshot.waiting, this.#waiting.size);
    assert.deepEqual(snapshot.leases, this.#leases.length);
    const held = new Map<string, number>();
    for (const { counters } of this.#limiter.leases()) {
      for (const key of counters) held.set(key, (held.get(key) ?? 0) + 1);
    }
    for (const { key, inUse } of snapshot.counters) assert.deepEqual([key, inUse], [key, held.get(key) ?? 0]);
    // No idle lease is one too many, or all that a request waits for.
    const states = new Map(snapshot.counters.map((counter) => [counter.key, counter]));
    const idle = [...this.#idle].map((lease) => this.#countersOf(lease));
    for (const key of idle.flat()) {
      const { inUse, limit } = states.get(key)!;
      // The reserve lifts limits of the global scope alone.
      const most = /^(server|scope)_max.* @ (global|built-in)/.test(key) ? limit + snapshot.reserve.limit : limit;
      assert.deepEqual([key, inUse <= most], [key, true]);
    }
    // No slot idles: something is full for each target of each request, or kept for one passed over too often.
    for (const { targets } of this.#waiting) {
      for (const target of targets) {
        const explained = this.#limiter.explain(target);
        const full = explained.limits.filter(({ inUse, limit }) => inUse >= limit);
        const isKept = String(explained).includes("kept for");
        assert.deepEqual(full.length > 0 || isKept, true);
        const helps = (counters: readonly string[]) =>
          full.every(({ key, inUse, limit }) => inUse === limit && counters.includes(key));
        assert.deepEqual(isKept || !idle.some(helps), true);
      }
    }
  }
}

function same(a: Target, b: Target): boolean {
  return (a.binding ?? "default") === (b.binding ?? "default") && a.domain === b.domain && a.host === b.host;
}
