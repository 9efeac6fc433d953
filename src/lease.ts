// The lease: released once, from anywhere, and never a second time.

import type { Plan } from "./core/plan.js";
import { describeTarget } from "./core/target.js";
import { LeaseLostError } from "./errors.js";
import type { Lease, Milliseconds, Target } from "./types.js";

/** Who gets the slots back. */
export interface Lessor {
  /** Of those that are idle. */
  readonly idlers: {
    begin(lease: HeldLease): void;
    end(lease: HeldLease): void;
    hasSurplus(plan: Plan): boolean;
  };
  move(lease: HeldLease, target: Target): Promise<boolean>;
  giveBack(lease: HeldLease): void;
  tellLost(target: Target, error: LeaseLostError): void;
}

/** A lease with the plan its slots were taken from, and its place among the leases held. */
export class HeldLease implements Lease {
  target: Target;
  readonly waited: Milliseconds;
  // Not fresh look-ups: what was taken is given back, whatever the policy says by then.
  plan: Plan;
  reserve: boolean;
  readonly since: Milliseconds;
  /** What to call when somebody waits for its slots, while its connection is idle. */
  wanted: (() => void) | undefined = undefined;
  before: HeldLease | undefined;
  after: HeldLease | undefined;
  #lessor: Lessor | undefined;
  #release: (() => void) | undefined;
  #lost: AbortController | undefined;

  constructor(lessor: Lessor, target: Target, plan: Plan, reserve: boolean, since: Milliseconds, waited: Milliseconds) {
    this.#lessor = lessor;
    this.target = target;
    this.plan = plan;
    this.reserve = reserve;
    this.since = since;
    this.waited = waited;
  }

  /** A function of its own, so that `socket.once("close", lease.release)` works; made when first asked for. */
  get release(): () => void {
    this.#release ??= () => this[Symbol.dispose]();
    return this.#release;
  }

  /** A signal of its own, so that listeners go when the lease goes; made when first asked for. */
  get lost(): AbortSignal {
    this.#lost ??= new AbortController();
    return this.#lost.signal;
  }

  idle(wanted: () => void): void {
    if (typeof wanted !== "function") throw new TypeError(`idle needs a function to call, not ${typeof wanted}`);
    if (this.#lessor === undefined) return;
    const { idlers } = this.#lessor;
    if (this.wanted !== undefined) idlers.end(this);
    this.wanted = wanted;
    idlers.begin(this);
  }

  busy(): void {
    if (this.wanted !== undefined) this.#lessor?.idlers.end(this);
  }

  get surplus(): boolean {
    return this.#lessor?.idlers.hasSurplus(this.plan) ?? false;
  }

  async move(target: Target): Promise<boolean> {
    if (this.#lessor === undefined) return false;
    return this.#lessor.move(this, target);
  }

  get isHeld(): boolean {
    return this.#lessor !== undefined;
  }

  /** Others may get its slots. It is still held: its connection is open until the holder closes it. */
  lose(why: string): void {
    const lessor = this.#lessor;
    if (lessor === undefined || this.lost.aborted) return;
    const error = new LeaseLostError(describeTarget(this.plan.target), this.target, why);
    this.#lost?.abort(error);
    lessor.tellLost(this.target, error);
  }

  /** Its slots are held by somebody else from now on. */
  end(): void {
    this.#lessor = undefined;
  }

  [Symbol.dispose](): void {
    const lessor = this.#lessor;
    this.#lessor = undefined;
    lessor?.giveBack(this);
  }
}
