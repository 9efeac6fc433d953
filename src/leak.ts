// DEBUG=outbound-limiter:leak: names where a lease was acquired that its holder lost without releasing it.

import debug from "debug";
import type { Lease, LocalLimiter, Milliseconds, Target } from "./types.js";

const log = debug("outbound-limiter:leak");

/** Leases that are all traced, to begin with; a program that leaks usually does so at once. */
const FIRST = 1000;
/** After them, one out of so many: a trace costs more than an acquire. */
const SAMPLE = 16;

let seen = 0;

interface Trace {
  readonly target: Target;
  readonly stack: string;
}

const lost = new FinalizationRegistry<Trace>(({ target, stack }) => {
  log("a lease for %s was never released, and by now nobody can; it was acquired\n%s", target.domain, stack);
});

/**
 * What a caller gets in place of a lease while leaks are looked for. The limiter keeps the lease itself, so only this
 * can be seen to be lost.
 */
class TracedLease implements Lease {
  readonly #lease: Lease;
  readonly release: () => void;

  constructor(lease: Lease) {
    this.#lease = lease;
    // Holds on to `this`: a lease is not lost while a listener that releases it is there.
    this.release = () => this[Symbol.dispose]();
  }

  get target(): Target {
    return this.#lease.target;
  }

  get waited(): Milliseconds {
    return this.#lease.waited;
  }

  get lost(): AbortSignal {
    return this.#lease.lost;
  }

  get surplus(): boolean {
    return this.#lease.surplus;
  }

  idle(wanted: () => void): void {
    this.#lease.idle(wanted);
  }

  busy(): void {
    this.#lease.busy();
  }

  move(target: Target): Promise<boolean> {
    return this.#lease.move(target);
  }

  [Symbol.dispose](): void {
    lost.unregister(this);
    this.#lease[Symbol.dispose]();
  }
}

/** The lease; or, if it falls into the sample, one that says so when it is lost. */
function traced(lease: Lease, stack: string): Lease {
  seen++;
  if (seen > FIRST && seen % SAMPLE > 0) return lease;
  const watched = new TracedLease(lease);
  lost.register(watched, { target: lease.target, stack }, watched);
  return watched;
}

/** The stack of whoever called a function. */
function callerOf(called: (...given: never[]) => unknown): string {
  const here = { stack: "" };
  Error.captureStackTrace(here, called);
  return here.stack.split("\n").slice(1).join("\n");
}

/** Watches the leases of a limiter, if that is asked for when it is made; costs nothing if not. */
export function traceLeases(limiter: LocalLimiter): LocalLimiter {
  if (!log.enabled) return limiter;
  const acquire = limiter.acquire.bind(limiter);
  const tryAcquire = limiter.tryAcquire.bind(limiter);
  const acquireAny = limiter.acquireAny.bind(limiter);
  const tracing: Pick<LocalLimiter, "acquire" | "acquireAny" | "tryAcquire"> = {
    async acquire(target, options) {
      const caller = callerOf(tracing.acquire);
      return traced(await acquire(target, options), caller);
    },
    async acquireAny(targets, options) {
      const caller = callerOf(tracing.acquireAny);
      return traced(await acquireAny(targets, options), caller);
    },
    tryAcquire(target) {
      const lease = tryAcquire(target);
      return lease === undefined ? undefined : traced(lease, callerOf(tracing.tryAcquire));
    },
  };
  return Object.assign(limiter, tracing);
}
