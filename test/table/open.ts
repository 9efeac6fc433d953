// What the named tests of the table share: a limiter on a clock that stands still, and promises to look at.
import { createLimiter, type LimiterOptions, type LocalLimiter, parsePolicy } from "../../src/index.js";
import { VirtualClock } from "../model/clock.js";

export interface Opened {
  readonly clock: VirtualClock;
  readonly limiter: LocalLimiter;
}

/** A limiter for this policy text, on its own virtual clock. */
export function open(policy: string, options: Omit<LimiterOptions, "clock" | "cluster"> = {}): Opened {
  const clock = new VirtualClock();
  return { clock, limiter: createLimiter(parsePolicy(policy, { source: "limits.conf" }), { ...options, clock }) };
}

/** What has become of a promise so far. */
export interface Watched<T> {
  readonly state: "pending" | "resolved" | "rejected";
  readonly value: T | undefined;
  readonly error: unknown;
  /** How often it settled; more than once would be a promise that is none. */
  readonly settled: number;
}

export function watch<T>(promise: Promise<T>): Watched<T> {
  const watched: { -readonly [key in keyof Watched<T>]: Watched<T>[key] } = {
    state: "pending",
    value: undefined,
    error: undefined,
    settled: 0,
  };
  promise.then(
    (value) => Object.assign(watched, { state: "resolved", value, settled: watched.settled + 1 }),
    (error: unknown) => Object.assign(watched, { state: "rejected", error, settled: watched.settled + 1 }),
  );
  return watched;
}

/** Lets every promise and every hand-over that was cut short go on. */
export async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

/** What the limiter shows when nobody holds or waits for anything. */
export const NOTHING = { leases: 0, waiting: 0, counters: [] } as const;
