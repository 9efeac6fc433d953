// Checks of what callers pass beside targets and policies.

import { systemClock } from "./clock.js";
import { typeName } from "./core/target.js";
import type { AcquireOptions, LimiterOptions, Milliseconds } from "./types.js";

/** The options of a limiter, with their defaults. */
export type CheckedOptions = Required<Pick<LimiterOptions, "maxWaiting" | "matchCacheSize" | "clock">> &
  Pick<LimiterOptions, "observer" | "cluster">;

/**
 * @throws {TypeError} an option that does not exist or has the wrong type
 * @throws {RangeError} an option out of range
 */
export function checkOptions(options: LimiterOptions): CheckedOptions {
  const { maxWaiting = 100_000, matchCacheSize = 16_384, observer, cluster, clock = systemClock, ...others } = options;
  for (const [name, value] of Object.entries(others)) {
    if (value !== undefined) throw new TypeError(`Unknown limiter option ${name}`);
  }
  checkCount("maxWaiting", maxWaiting, 0);
  if (matchCacheSize === Number.POSITIVE_INFINITY) {
    throw new RangeError("Limiter option matchCacheSize must be finite: names come from the internet");
  }
  checkCount("matchCacheSize", matchCacheSize, 1);
  if (typeof clock?.now !== "function" || typeof clock.after !== "function") {
    throw new TypeError("Limiter option clock must have the functions now and after");
  }
  if (observer !== undefined && (typeof observer !== "object" || observer === null))
    throw new TypeError("Limiter option observer must be an object");
  return { maxWaiting, matchCacheSize, clock, ...(observer && { observer }), cluster };
}

function checkCount(name: string, value: unknown, least: number): void {
  if (typeof value !== "number") throw new TypeError(`Limiter option ${name} must be a number, not ${typeof value}`);
  if (value !== Number.POSITIVE_INFINITY && (!Number.isSafeInteger(value) || value < least)) {
    throw new RangeError(`Limiter option ${name} must be a whole number from ${least}, not ${value}`);
  }
}

/** For who gives none: nothing to look at. */
export const NO_OPTIONS: AcquireOptions = Object.freeze({});

/**
 * @returns the timeout, or its default
 * @throws {TypeError} an option that does not exist or has the wrong type
 * @throws {RangeError} a timeout that is negative or not a number
 */
export function checkAcquire(options: AcquireOptions): Milliseconds {
  if (options === NO_OPTIONS) return Number.POSITIVE_INFINITY;
  if (typeof options !== "object" || options === null)
    throw new TypeError(`Options must be an object, not ${typeName(options)}`);
  for (const name in options) {
    if (name !== "timeout" && name !== "signal" && options[name as "timeout"] !== undefined)
      throw new TypeError(`Unknown option ${name}`);
  }
  const { signal, timeout } = options;
  if (signal !== undefined && typeof signal?.throwIfAborted !== "function")
    throw new TypeError(`Option signal must be an AbortSignal, not ${typeName(signal)}`);
  return checkTimeout(timeout);
}

export function checkTimeout(timeout: unknown): Milliseconds {
  if (timeout === undefined) return Number.POSITIVE_INFINITY;
  if (typeof timeout !== "number")
    throw new TypeError(`Option timeout must be a number of milliseconds, not ${typeof timeout}`);
  if (!(timeout >= 0)) throw new RangeError(`Option timeout must be 0 ms or more, not ${timeout}`);
  return timeout;
}
