// What came of a run, as plain data: the rows that stand out, and how many there are beside them.

import { createLimiter } from "../limiter.js";
import type { ExplainedLimit, Milliseconds, Policy, Target } from "../types.js";
import type { Run } from "./run.js";
import { Account, type Tally } from "./tally.js";

export interface LimitRow extends Pick<ExplainedLimit, "key" | "option" | "counts" | "limit" | "setAt"> {
  /** Connections at most, past the limit out of the reserve; and in the mean. */
  readonly peak: number;
  readonly mean: number;
  /** Part of the time, from 0 to 1. */
  readonly full: number;
  /** Requests that came while it was full, and had to wait. */
  readonly heldUp: number;
  /** Time that requests waited while it was full. Two limits that are full at a time both have it. */
  readonly waited: Milliseconds;
}

/** Requests, and how long they waited: until admitted, until they gave up, or until the end of the run. */
export interface WaitRow {
  readonly target: Target;
  readonly asked: number;
  readonly admitted: number;
  readonly timedOut: number;
  readonly refused: number;
  readonly stillWaiting: number;
  /** Requests that waited at all. */
  readonly delayed: number;
  readonly waited: Milliseconds;
  readonly median: Milliseconds;
  readonly p90: Milliseconds;
  readonly p99: Milliseconds;
  readonly longest: Milliseconds;
}

export interface Report extends Omit<WaitRow, "target"> {
  readonly policy: string;
  readonly span: Milliseconds;
  readonly admittedPerSecond: number;
  /** The costliest first. */
  readonly limits: readonly LimitRow[];
  /** The longest waits first, of all bindings and hosts together. */
  readonly domains: readonly WaitRow[];
  /** Targets that nobody was admitted to. */
  readonly starved: readonly WaitRow[];
  /** How many there are in all. */
  readonly count: { readonly limits: number; readonly domains: number; readonly starved: number };
}

/** A report with at most `top` rows of each kind. */
export function reportOf(run: Run, policy: Policy, top: number): Report {
  const all = new Account({ domain: "" }, []);
  const domains = new Map<string, Account>();
  for (const account of run.accounts) {
    const { domain } = account.target;
    const sum = domains.get(domain) ?? new Account({ domain }, []);
    domains.set(domain, sum);
    sum.add(account);
    all.add(account);
  }
  const starved = run.accounts.filter(({ admitted }) => admitted === 0);
  const limiter = createLimiter(policy);
  const { target: _, ...total } = waitRow(all);
  return {
    policy: policy.source,
    span: run.span,
    admittedPerSecond: (all.admitted / Math.max(run.span, 1)) * 1000,
    ...total,
    limits: run.tallies
      .toSorted(byCost)
      .slice(0, top)
      .map((tally) => limitRow(tally, run.span, limiter.explain(tally.example).limits)),
    domains: [...domains.values()].sort(byWaits).slice(0, top).map(waitRow),
    starved: starved.sort(byWaits).slice(0, top).map(waitRow),
    count: { limits: run.tallies.length, domains: domains.size, starved: starved.length },
  };
}

const byCost = (a: Tally, b: Tally): number =>
  b.waited - a.waited || b.full - a.full || b.peak / b.limit - a.peak / a.limit || b.peak - a.peak;
const byWaits = (a: Account, b: Account): number => b.waits.total - a.waits.total || b.asked - a.asked;

function limitRow(tally: Tally, span: Milliseconds, explained: readonly ExplainedLimit[]): LimitRow {
  const { key, limit, peak, used, full, heldUp, waited } = tally;
  // INVARIANT: the limiter explains an example of a limit with that limit among others.
  const { option, counts, setAt } = explained.find((one) => one.key === key) as ExplainedLimit;
  const of = Math.max(span, 1);
  return { key, option, counts, limit, setAt, peak, mean: used / of, full: full / of, heldUp, waited };
}

function waitRow({ target, asked, admitted, timedOut, refused, waits }: Account): WaitRow {
  const [median, p90, p99] = [0.5, 0.9, 0.99].map((part) => waits.quantile(part)) as [number, number, number];
  const { delayed, total: waited, longest } = waits;
  const stillWaiting = waits.count - admitted - timedOut - refused;
  return { target, asked, admitted, timedOut, refused, stillWaiting, delayed, waited, median, p90, p99, longest };
}
