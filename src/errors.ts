// What callers catch: one class a reason, told apart by `code`, also across two copies of this package.

import type { ExplainedLimit, Milliseconds, PolicyIssue, Target } from "./types.js";

/** The contract of an error is its `code`: one process can load this package twice, so `instanceof` may miss. */
export type LimiterErrorCode =
  | "ERR_LIMITER_POLICY"
  | "ERR_LIMITER_TIMEOUT"
  | "ERR_LIMITER_QUEUE_FULL"
  | "ERR_LIMITER_CLOSED"
  | "ERR_LIMITER_CLUSTER"
  | "ERR_LIMITER_LOST";

const BRAND: unique symbol = Symbol.for("outbound-limiter.error");

/** What every error of this package extends. */
export abstract class LimiterError extends Error {
  abstract readonly code: LimiterErrorCode;

  static {
    // On the prototype, so that errors print and compare without it.
    Object.defineProperty(LimiterError.prototype, BRAND, { value: true });
  }
}

/** Any error of this package: its `code` tells TypeScript which. */
export type AnyLimiterError =
  | PolicyError
  | AcquireTimeoutError
  | QueueFullError
  | LimiterClosedError
  | ClusterError
  | LeaseLostError;

/**
 * Whether an error was thrown by this package, by this copy of it or another.
 *
 * @example
 * try {
 *   await limiter.acquire(target, { timeout: 30_000 });
 * } catch (error) {
 *   if (isLimiterError(error) && error.code === "ERR_LIMITER_TIMEOUT") defer(message, error.blockedBy);
 *   else throw error;
 * }
 */
export function isLimiterError(error: unknown): error is AnyLimiterError {
  return typeof error === "object" && error !== null && (error as { [BRAND]?: unknown })[BRAND] === true;
}

/** A policy that cannot be used. Its message shows every issue the way a compiler does. */
export class PolicyError extends LimiterError {
  override readonly name = "PolicyError";
  readonly code = "ERR_LIMITER_POLICY";
  /** At most 50, in source order. */
  readonly issues: readonly [PolicyIssue, ...PolicyIssue[]];

  constructor(issues: readonly [PolicyIssue, ...PolicyIssue[]]) {
    super(issues.map(formatIssue).join("\n\n"));
    this.issues = issues;
  }
}

function formatIssue(issue: PolicyIssue): string {
  const place = issue.line === 0 ? issue.source : `${issue.source}:${issue.line}:${issue.column}`;
  const excerpt = issue.excerpt === "" || issue.excerpt === issue.source ? "" : `\n\n${indent(issue)}`;
  const help = issue.help === undefined ? "" : `${excerpt === "" ? "\n" : ""}\n  help: ${issue.help}`;
  return `${place}: ${issue.message}${excerpt}${help}`;
}

function indent(issue: PolicyIssue): string {
  return issue.line === 0 ? `  ${issue.excerpt}` : issue.excerpt;
}

/** No slot within the request's `timeout`. */
export class AcquireTimeoutError extends LimiterError {
  override readonly name = "AcquireTimeoutError";
  readonly code = "ERR_LIMITER_TIMEOUT";
  readonly target: Target;
  readonly waited: Milliseconds;
  /** The limits that were full when it gave up. */
  readonly blockedBy: readonly ExplainedLimit[];

  /** @internal */
  constructor(
    where: string,
    timeout: Milliseconds,
    target: Target,
    waited: Milliseconds,
    blockedBy: readonly ExplainedLimit[],
  ) {
    super(`No connection slot for ${where} within ${timeout} ms: ${describeBlockers(blockedBy)}`);
    this.target = target;
    this.waited = waited;
    this.blockedBy = blockedBy;
  }
}

function describeBlockers(blockedBy: readonly ExplainedLimit[]): string {
  if (blockedBy.length === 0) return "earlier requests of the same queue are still waiting";
  return blockedBy
    .map(({ option, inUse, limit, setAt }) => {
      const state = inUse < limit ? "waits for slots of the cluster" : "is full";
      return `${option} ${state} (${inUse} of ${limit} in use, ${placeOf(setAt)})`;
    })
    .join("; ");
}

/** Where a limit was written, for the end of a sentence. */
export function placeOf(setAt: ExplainedLimit["setAt"]): string {
  if (setAt === undefined) return "built-in default";
  return setAt.line === 0 ? `set in ${setAt.scope}` : `set at ${setAt.source}:${setAt.line}:${setAt.column}`;
}

/** As many requests as the limiter's `maxWaiting` already wait. */
export class QueueFullError extends LimiterError {
  override readonly name = "QueueFullError";
  readonly code = "ERR_LIMITER_QUEUE_FULL";
  /** How many wait. */
  readonly waiting: number;

  /** @internal */
  constructor(where: string, waiting: number) {
    super(
      `Cannot wait for a connection slot for ${where}: ${waiting} requests already wait, as many as maxWaiting allows`,
    );
    this.waiting = waiting;
  }
}

/** The limiter was closed. */
export class LimiterClosedError extends LimiterError {
  override readonly name = "LimiterClosedError";
  readonly code = "ERR_LIMITER_CLOSED";

  /** @internal */
  constructor(where: string) {
    super(`No connection slot for ${where}: the limiter is closed`);
  }
}

/** The limits of the cluster cannot be checked: its engine does not answer, and `whenDown` is "refuse". */
export class ClusterError extends LimiterError {
  override readonly name = "ClusterError";
  readonly code = "ERR_LIMITER_CLUSTER";

  /** @internal */
  constructor(what: string, cause?: unknown) {
    super(cause instanceof Error ? `${what}: ${cause.message}` : what, { cause });
  }
}

/** The reason of an aborted `lease.lost`: others may have the slots of the lease now, so its connection has to be closed. */
export class LeaseLostError extends LimiterError {
  override readonly name = "LeaseLostError";
  readonly code = "ERR_LIMITER_LOST";
  readonly target: Target;

  /** @internal */
  constructor(where: string, target: Target, why: string) {
    super(`The connection slot for ${where} is lost: ${why}`);
    this.target = target;
  }
}
