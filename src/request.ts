// A request that waits, with what its caller waits for.

import { type Plan, Waiter } from "./core/plan.js";
import type { Deadlines, Timed } from "./deadlines.js";
import type { Aborts } from "./signals.js";
import type { Lease, Milliseconds, Target } from "./types.js";

/** What a caller of `acquire` gave, and how it is answered. */
export interface Asked {
  readonly target: Target;
  /** Infinity: for ever. */
  readonly timeout: Milliseconds;
  readonly resolve: (lease: Lease) => void;
  readonly reject: (reason: unknown) => void;
  /** For a lease that moves: nobody is told of it. */
  readonly isMove?: true;
}

/** A waiter that is a caller's promise. */
export class Request extends Waiter implements Timed {
  readonly target: Target;
  readonly timeout: Milliseconds;
  readonly order: number;
  readonly resolve: (lease: Lease) => void;
  readonly reject: (reason: unknown) => void;
  readonly isMove: boolean;
  deadlines: Deadlines<Request> | undefined;
  aborts: Aborts<Request> | undefined;
  /** Its caller has his answer. */
  settled = false;
  /** If several wait for one caller, each for another target: all of them. The first that is admitted is his answer. */
  rivals: readonly Request[] | undefined = undefined;

  constructor(plan: Plan, since: Milliseconds, order: number, asked: Asked) {
    const { target, timeout, resolve, reject, isMove = false } = asked;
    super(plan, since);
    this.order = order;
    this.target = target;
    this.timeout = timeout;
    this.resolve = resolve;
    this.reject = reject;
    this.isMove = isMove;
  }

  get deadline(): Milliseconds {
    return this.since + this.timeout;
  }

  /**
   * Timer and signal of its caller are let go, once it is settled. Their code runs: not before the counts are right. Never
   * throws, whatever they do.
   */
  letGo(): void {
    for (const one of this.rivals ?? [this]) one.#letGo();
  }

  #letGo(): void {
    const { deadlines, aborts } = this;
    this.deadlines = undefined;
    this.aborts = undefined;
    deadlines?.remove();
    aborts?.remove(this);
  }
}
