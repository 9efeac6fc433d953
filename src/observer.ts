// Who is told what a limiter does: its observer, the adapters of this package, and node:diagnostics_channel.

import { type Channel, channel } from "node:diagnostics_channel";
import debug from "debug";
import type { Limiter, Observer, Policy } from "./types.js";

const log = debug("outbound-limiter:observer");

export type Events = { readonly [Name in keyof Observer]-?: Parameters<NonNullable<Observer[Name]>>[0] };

/** One for each event. Made here, as Node forgets a channel that nobody keeps. */
export const CHANNELS: { readonly [Name in keyof Observer]-?: Channel } = {
  queued: channel("outbound-limiter:queued"),
  granted: channel("outbound-limiter:granted"),
  refused: channel("outbound-limiter:refused"),
  released: channel("outbound-limiter:released"),
  lost: channel("outbound-limiter:lost"),
  updated: channel("outbound-limiter:updated"),
  reloadFailed: channel("outbound-limiter:reloadFailed"),
  cluster: channel("outbound-limiter:cluster"),
};

/** The observers of one limiter, and whoever listens to the channels of all. */
export class Audience {
  #observers: readonly Observer[] = [];
  #warned = false;
  readonly #inForce: () => Policy;

  constructor(inForce: () => Policy) {
    this.#inForce = inForce;
  }

  /** The policy in force, for those who tell of its limits before anything meets them. */
  get policy(): Policy {
    return this.#inForce();
  }

  /** Whether anybody would be told. Asked first, so that nothing is made up for nobody. */
  wants(event: Channel): boolean {
    return this.#observers.length > 0 || event.hasSubscribers;
  }

  /** One more observer, until disposed of. */
  add(observer: Observer): Disposable {
    this.#observers = [...this.#observers, observer];
    return {
      [Symbol.dispose]: () => {
        this.#observers = this.#observers.filter((other) => other !== observer);
      },
    };
  }

  /** Tells everybody. Counts are settled by now: callers' code runs, and what it throws costs no slot. */
  tell<Name extends keyof Observer>(name: Name, event: Events[Name]): void {
    for (const observer of this.#observers) {
      try {
        // As a method: an observer may be an object with a state.
        (observer as { [Told in Name]?: (event: Events[Told]) => void })[name]?.(event);
      } catch (error) {
        this.#failed(name, error);
      }
    }
    // What a subscriber throws Node makes an uncaught exception, of its own turn.
    CHANNELS[name].publish(event);
  }

  #failed(name: string, error: unknown): void {
    log("observer failed in %s: %o", name, error);
    if (this.#warned) return;
    this.#warned = true;
    process.emitWarning(`An observer of a limiter throws in ${name}, which is told once: ${String(error)}`, {
      code: "OUTBOUND_LIMITER_OBSERVER",
    });
  }
}

/** Where a limiter keeps its audience. For all copies of this package in a process: adapters may come from another one. */
export const AUDIENCE: unique symbol = Symbol.for("outbound-limiter.audience") as never;

/**
 * The audience of a limiter.
 *
 * @throws {TypeError} not a limiter of this package
 */
export function audienceOf(limiter: Limiter): Audience {
  const audience = (limiter as { readonly [AUDIENCE]?: Audience } | undefined)?.[AUDIENCE];
  if (audience === undefined) throw new TypeError("Not a limiter: it has to be made by createLimiter");
  return audience;
}
