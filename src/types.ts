// The public nouns as types; nothing here exists at run time. Everything else in `src` may import this file.

import type { LimitOption, Policy } from "./types/policy.js";

export type {
  ContainerInput,
  LimitOption,
  Limits,
  ParseOptions,
  Policy,
  PolicyInput,
  PolicyIssue,
} from "./types/policy.js";

/** A whole number of milliseconds. */
export type Milliseconds = number;

/**
 * Where one outbound SMTP connection is about to go.
 *
 * A limiter keeps the object it was given, for {@link Lease.target} and for errors; it may carry more fields than these
 * (a message id, say), and must not be changed while it waits or while its lease is held.
 *
 * @example
 * const target: Target = { binding: "mta-1", domain: "gmail.com", host: "gmail-smtp-in.l.google.com" };
 */
export interface Target {
  /**
   * The local identity the connection leaves from, usually a source address. Case matters; no white space, no colon.
   * @default "default"
   */
  readonly binding?: string | undefined;
  /**
   * The group of the binding. Left out, it is looked up in the policy. Given, it must not contradict the policy.
   * @default the group the policy puts the binding into, else "default"
   */
  readonly bindingGroup?: string | undefined;
  /**
   * The recipient domain, or an address literal (`192.0.2.1`, `[192.0.2.1]`, `[IPv6:2001:db8::1]`). Case and one
   * trailing dot do not matter; international names may come in either form.
   */
  readonly domain: string;
  /** The MX host about to be dialled, a name or an address. Left out, `host` stanzas make no claim. */
  readonly host?: string | undefined;
}

/** How long, and until when, to wait for a slot. */
export interface AcquireOptions {
  /** Aborting it makes the waiting request reject with `signal.reason`. It does not end a lease already given. */
  readonly signal?: AbortSignal | undefined;
  /**
   * How long to wait for a slot, in milliseconds; not how long to hold it. 0: try once.
   * @default Infinity
   */
  readonly timeout?: Milliseconds | undefined;
}

/**
 * The right to have one connection open. Give it back exactly when the socket is closed; {@link releaseOnClose} does.
 *
 * @example
 * const lease = await limiter.acquire({ domain: "gmail.com" });
 * releaseOnClose(lease, socket);
 */
export interface Lease extends Disposable {
  /** The very object that was passed to `acquire`, `acquireAny`, `tryAcquire`, `run` or, last, to `move`. */
  readonly target: Target;
  /** How long the request waited, in milliseconds; 0 if it went at once. */
  readonly waited: Milliseconds;
  /** Gives the slots back. Needs no `this`, never throws, does nothing the second time. */
  readonly release: () => void;
  /** Aborts (with a `LeaseLostError`) when others may get the slots: close the connection. Only with a cluster. */
  readonly lost: AbortSignal;
  /**
   * The connection is open but unused, as in a pool: `wanted` is called, once and soon, when a request waits for a slot
   * that this lease holds, more slots are held than a limit allows that was lowered, or the limiter closes. Close the
   * connection then, if it is still unused; what it throws is a process warning. Without a call the lease is busy, and is so
   * again when it has moved to another target.
   *
   * @throws {TypeError} `wanted` is not a function
   * @example
   * lease.idle(() => connection.quit()); // until lease.busy()
   */
  idle(wanted: () => void): void;
  /** The connection is in use again: nobody asks for its slots. */
  busy(): void;
  /**
   * Whether more connections are open under one of its limits than that allows, as `update` lowered it; those that were
   * asked to end do not count. A pool that is never idle asks after each message, and ends the connection.
   *
   * @example
   * if (lease.surplus) connection.quit();
   */
  readonly surplus: boolean;
  /**
   * Goes on to another target: the next MX host after a failed dial, or another domain over the same connection. What
   * both have in common is kept; slots of the other limits are taken if all have room at once, and only then those that
   * are not needed any more are given back. A reserve does what it does for a new connection.
   *
   * @returns whether it has moved; if not, the lease is as it was. False also for a lease that was released
   * @throws {TypeError} malformed target, or a group that contradicts the policy; nothing was counted
   * @example
   * if (!(await lease.move({ domain: "gmail.com", host: "alt1.gmail-smtp-in.l.google.com" }))) lease.release();
   */
  move(target: Target): Promise<boolean>;
}

/** One live counter. */
export interface CounterState {
  /** Stable for a given policy and readable; not to be parsed. */
  readonly key: string;
  /** The most connections it admits. */
  readonly limit: number;
  /** Connections open now. May exceed `limit`: out of the reserve, or after `update` lowered it. */
  readonly inUse: number;
  /** With a cluster: how many of `inUse` are this process's; the others' are as last told. */
  readonly here?: number;
  /** Requests this counter is holding up now. */
  readonly waiting: number;
  /** How long the oldest of them has waited, in milliseconds; 0 if there is none. The one to alert on. */
  readonly oldestWait: Milliseconds;
}

/** One limit that applies to a target, with where it came from. */
export interface ExplainedLimit extends CounterState {
  readonly option: LimitOption;
  /** What it counts, in words: `connections from binding mta-1 to gmail.com`. */
  readonly counts: string;
  readonly reach: "process" | "cluster";
  /** Where it was written; undefined for the built-in default. Line and column are 0 for a policy made by `definePolicy`. */
  readonly setAt:
    | { readonly scope: string; readonly source: string; readonly line: number; readonly column: number }
    | undefined;
  /** Every scope looked at, most specific first, and what it said; -1 is unlimited, undefined is not set. */
  readonly lookedAt: readonly { readonly scope: string; readonly limit: number | undefined }[];
}

/** What applies to a target now. `String(explanation)` is for a terminal. */
export interface Explanation {
  readonly target: Target;
  /** "go": `acquire` would return at once; "reserve": at once, out of the reserve; "wait": it would wait. */
  readonly verdict: "go" | "reserve" | "wait";
  readonly limits: readonly ExplainedLimit[];
  toString(): string;
}

/** All live counters, as plain JSON. */
export interface Snapshot {
  /** The name of the policy in force. */
  readonly policy: string;
  /** Leases held. */
  readonly leases: number;
  /** Requests waiting. */
  readonly waiting: number;
  /** Leases admitted out of the reserve and still held; a limit of -1 is unlimited. */
  readonly reserve: { readonly inUse: number; readonly limit: number };
  /** Counters that nobody holds or waits on do not exist. */
  readonly counters: readonly CounterState[];
}

/** One held lease. */
export interface LeaseInfo {
  readonly target: Target;
  /** In milliseconds. */
  readonly heldFor: Milliseconds;
  /** Keys of the counters it holds one slot of. */
  readonly counters: readonly string[];
}

/** Where a limiter takes its time from. Made for tests and simulations. */
export interface Clock {
  /** Milliseconds since some fixed moment; never goes back. */
  now(): Milliseconds;
  /** Runs `run` once after `delay` milliseconds, unless disposed before. */
  after(delay: Milliseconds, run: () => void): Disposable;
}

/**
 * Who is told what a limiter does, after the fact, with the counters settled: a callback may use the limiter. One that
 * throws costs no slot and no request; the first time, it is told as a process warning. Whether there is an observer or
 * not, every event is published on `node:diagnostics_channel` as well, as `outbound-limiter:<event>`. Without observer
 * and subscribers, an event costs a check.
 *
 * Of the states of counters in an event, `oldestWait` is looked up when it is read.
 *
 * @example
 * const observed = createLimiter(parsePolicy("max_outbound_connections = 20"), {
 *   observer: { queued: ({ target, blockedBy }) => console.log(`${target.domain} waits for ${blockedBy[0]?.key}`) },
 * });
 */
export interface Observer {
  /** A request waits; for what is full, if it is not for those before it in its own queue. */
  queued?(event: { readonly target: Target; readonly blockedBy: readonly CounterState[] }): void;
  /** A lease was given; `waited` in milliseconds, and for which limit at last: nothing if it went at once. */
  granted?(event: {
    readonly target: Target;
    readonly waited: Milliseconds;
    /** Out of the reserve. */
    readonly reserve: boolean;
    readonly blockedBy: readonly CounterState[];
  }): void;
  /** A request that could not go at once ended without a lease: timed out, aborted, refused by a full queue, closed. */
  refused?(event: {
    readonly target: Target;
    readonly error: unknown;
    /** In milliseconds. */
    readonly waited: Milliseconds;
    readonly blockedBy: readonly CounterState[];
  }): void;
  /** A lease was given back; `held` in milliseconds. */
  released?(event: { readonly target: Target; readonly held: Milliseconds }): void;
  /** The slots of a lease may be given to others. Only with limits of a cluster. */
  lost?(event: { readonly target: Target; readonly error: Error }): void;
  /** Another policy is in force; the counters that hold more than it allows. */
  updated?(event: { readonly from: string; readonly to: string; readonly overLimit: readonly CounterState[] }): void;
  /** `watchPolicy` could not read the edited policy; the one before stays in force. */
  reloadFailed?(event: { readonly policy: string; readonly error: unknown }): void;
  /** The engine of the cluster answers; it does not; or it learns for one `ttl` what it lost, and grants nothing. */
  cluster?(event: { readonly state: "up" | "down" | "recovering"; readonly error?: unknown }): void;
}

/** What `createLimiter` takes beside the policy. */
export interface LimiterOptions {
  /**
   * Requests that may wait at one time; one more is refused with `QueueFullError`.
   * @default 100_000
   */
  readonly maxWaiting?: number;
  /**
   * Most names, and most targets, remembered with what applies to them (Momentum's `match_cache_size`). Not 0.
   * @default 16_384
   */
  readonly matchCacheSize?: number;
  /** Is told of every request, lease and policy. */
  readonly observer?: Observer;
  /** Shares the `cluster_*` limits with other limiters. @default none: they hold for this limiter alone */
  readonly cluster?: Cluster | undefined;
  /** @default the monotonic clock and timers of Node */
  readonly clock?: Clock;
}

/** What limiters share their `cluster_*` limits through: `redisCluster` of "outbound-limiter/redis", or `memoryCluster`. */
export interface Cluster {
  /** "redis" or "memory". */
  readonly kind: string;
  /** Who takes part, and what each holds. @throws {ClusterError} the engine does not answer */
  members(): Promise<readonly ClusterMember[]>;
}

/**
 * One limiter that takes part: its host and process id as a label, how long nothing was heard of it, and the slots that
 * it holds, in use or spare, by the key of their counter.
 */
export interface ClusterMember {
  readonly id: string;
  readonly label: string;
  readonly silentFor: Milliseconds;
  readonly holds: Readonly<Record<string, number>>;
}

/** How to follow a policy file. */
export interface WatchOptions {
  /** As for `loadPolicy`. */
  readonly unknown?: "error" | "ignore";
  /**
   * After a change, how long nothing else may change before the policy is read, in milliseconds.
   * @default 100
   */
  readonly pause?: Milliseconds;
  /** Another policy is in force. `policy.warnings` may deserve a look. */
  readonly onReload?: (policy: Policy) => void;
  /**
   * The edited policy has mistakes (`PolicyError`) or cannot be read; the one before stays in force.
   * @default a process warning
   */
  readonly onError?: (error: unknown) => void;
}

/** A policy file that is followed. */
export interface PolicyWatch extends Disposable {
  /**
   * Reads the policy now, whether it has changed or not.
   *
   * @throws {PolicyError} as is told to `onError`; the policy before stays in force
   */
  reload(): Promise<Policy>;
  /** Follows no longer. The policy stays in force. */
  close(): void;
}

/** What every limiter can do. */
export interface Limiter extends AsyncDisposable {
  /**
   * Waits until every limit that applies has room, then takes one slot of each, together. Holds nothing while it waits.
   * Requests of one (binding, domain, host) are served first come, first served.
   *
   * @param target where the connection is about to go
   * @param options `timeout` in milliseconds (default Infinity; 0 tries once) and `signal`
   * @returns the lease; release it when the socket is closed
   * @throws {AcquireTimeoutError} after `timeout`; `blockedBy` names the limits that were full
   * @throws {QueueFullError} at once, when `maxWaiting` requests already wait
   * @throws {LimiterClosedError} after `close()`
   * @throws {ClusterError} a limit of the cluster cannot be checked, and `whenDown` is "refuse"
   * @throws {TypeError} malformed target, a group that contradicts the policy, or an unknown option; nothing was counted
   * @throws {RangeError} a `timeout` that is negative or not a number
   * @throws `signal.reason`, untouched, when `signal` aborts
   * @example
   * const lease = await limiter.acquire({ binding: "mta-1", domain: "gmail.com" }, { timeout: 30_000 });
   */
  acquire(target: Target, options?: AcquireOptions): Promise<Lease>;
  /**
   * `acquire` for the first of several targets that has room, as for the MX hosts of a domain in order of preference. If
   * none has, waits in the queues of all, and takes the one that comes first; `lease.target` tells which. Errors and events
   * name the first of them; `blockedBy` of an `AcquireTimeoutError` has the limits that were full for any.
   *
   * @throws {TypeError} no list of targets, or an empty one
   * @throws what `acquire` throws
   * @example
   * const hosts = ["mx1.example.com", "mx2.example.com"];
   * const first = await limiter.acquireAny(hosts.map((host) => ({ domain: "example.com", host })));
   */
  acquireAny(targets: readonly Target[], options?: AcquireOptions): Promise<Lease>;
  /**
   * `acquire`, run `work`, release on every path.
   *
   * @returns what `work` returns
   * @throws what `acquire` throws, and what `work` throws
   * @example
   * await limiter.run({ domain: "gmail.com" }, (lease) => deliver(lease.target.domain));
   */
  run<T>(target: Target, work: (lease: Lease) => T | PromiseLike<T>, options?: AcquireOptions): Promise<T>;
  /**
   * Every limit that applies, its count, where it was set, what lost. Changes nothing.
   *
   * @throws {TypeError} malformed target, or a group that contradicts the policy
   * @example
   * console.log(String(limiter.explain({ binding: "mta-1", domain: "orange.fr" })));
   */
  explain(target: Target): Explanation;
  /** All live counters, as plain JSON. Counters nobody holds or waits on do not exist. */
  snapshot(): Snapshot;
  /** Who holds slots right now: one entry a lease, oldest first. */
  leases(): Iterable<LeaseInfo>;
  /**
   * Puts another policy in force, as if it had been there from the start: every held lease and every waiting request is
   * resolved again. Nothing is revoked; a lowered limit admits nobody until enough are given back, and asks idle leases
   * to end (see {@link Lease.idle}). Requests that now fit are admitted before it returns.
   *
   * A held or waiting target whose group contradicts the new policy is in the group that the policy says.
   *
   * @throws {TypeError} not a policy; the old policy stays in force
   */
  update(policy: Policy): void;
  /**
   * Refuses new requests, rejects the waiting ones with `LimiterClosedError`, asks idle leases to end, resolves when every
   * lease is back or after `timeout` milliseconds (default Infinity). Never revokes a lease.
   *
   * @throws {RangeError} a `timeout` that is negative or not a number
   */
  close(options?: { readonly timeout?: Milliseconds }): Promise<void>;
}

/** A limiter whose limits are all its own to decide, so it can answer at once. */
export interface LocalLimiter extends Limiter {
  /**
   * Takes the slots now, or returns undefined and changes nothing. Never overtakes a request that could go, so
   * `explain()` right after is exact.
   *
   * @throws {TypeError} malformed target, or a group that contradicts the policy; nothing was counted
   * @throws {LimiterClosedError} after `close()`
   */
  tryAcquire(target: Target): Lease | undefined;
}
