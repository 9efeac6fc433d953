// A plan and its counters as an Explanation: plain data, and a text for the terminal.

import { placeOf } from "../errors.js";
import { reachOf } from "../policy/options.js";
import { DEFAULT, reserveOf } from "../policy/policy.js";
import type { CounterState, ExplainedLimit, Explanation, Snapshot, Target } from "../types.js";
import type { Counters } from "./counters.js";
import type { Counter, Plan } from "./plan.js";
import { type Claim, lookedAt, resolve, type Scopes } from "./resolve.js";
import type { NormalTarget } from "./target.js";

/** The state of one counter. `oldest` is when the oldest request that claims it began to wait. */
export function stateOf(counter: Counter, oldest: number | undefined, now: number): CounterState {
  const full = counter.inUse >= counter.open;
  return {
    key: counter.key,
    limit: counter.limit,
    inUse: counter.inUse + counter.others,
    ...(counter.remote && { here: counter.inUse }),
    waiting: full ? counter.wanted : 0,
    oldestWait: full && oldest !== undefined ? Math.max(0, Math.round(now - oldest)) : 0,
  };
}

/** When the oldest waiting request that claims a counter began to wait, by counter. */
export function oldestWaits(counters: Counters): Map<Counter, number> {
  const oldest = new Map<Counter, number>();
  for (const plan of counters.line.plans) {
    const since = plan.queue.first?.since ?? Number.POSITIVE_INFINITY;
    for (const counter of plan.counters) oldest.set(counter, Math.min(since, oldest.get(counter) ?? since));
  }
  return oldest;
}

/** The states of some counters. The oldest wait is looked up when it is asked for: that walks through the whole line. */
export function statesOf(some: readonly Counter[], counters: Counters, now: number): CounterState[] {
  return some.map((counter) => ({
    ...stateOf(counter, undefined, now),
    get oldestWait() {
      return stateOf(counter, oldestWaits(counters).get(counter), now).oldestWait;
    },
  }));
}

/**
 * The limits that apply to a target, with their counts and where they come from. Resolved afresh: a plan in the table
 * has its counters and nothing else. `only` picks some of them by key.
 */
export function explainLimits(
  scopes: Scopes,
  counters: Counters,
  now: number,
  oldest: ReadonlyMap<Counter, number>,
  only?: ReadonlySet<string>,
): ExplainedLimit[] {
  return resolve(scopes)
    .filter(({ limit, key }) => limit !== Number.POSITIVE_INFINITY && (only === undefined || only.has(key)))
    .map((claim) => explainClaim(claim, scopes, counters.get(claim.key), oldest, now));
}

function explainClaim(
  claim: Claim,
  scopes: Scopes,
  counter: Counter | undefined,
  oldest: ReadonlyMap<Counter, number>,
  now: number,
): ExplainedLimit {
  const { key, limit, option, scope } = claim;
  const setting = scope?.settings.get(option);
  const state =
    counter === undefined
      ? { key, limit, inUse: 0, waiting: 0, oldestWait: 0 }
      : stateOf(counter, oldest.get(counter), now);
  return {
    ...state,
    option,
    counts: countsInWords(claim, scopes.target),
    reach: reachOf(option),
    setAt:
      scope === undefined || setting === undefined
        ? undefined
        : { scope: scope.path, source: setting.spot.source, line: setting.spot.line, column: setting.spot.column },
    lookedAt: lookedAt(claim, scopes),
  };
}

/** What a limit of an explanation says beyond its numbers. */
interface Notes {
  /** Slots kept for a request that was passed over too often. */
  readonly kept: number;
  /** Slots in use out of the reserve, where that applies. */
  readonly reserve: Snapshot["reserve"] | undefined;
}

/** Everything about one target. */
export function explain(target: Target, plan: Plan, scopes: Scopes, counters: Counters, now: number): Explanation {
  const verdict = counters.verdict(plan);
  const limits = explainLimits(scopes, counters, now, oldestWaits(counters));
  const notes = limits.map(({ key, limit, inUse }): Notes => {
    const { open = limit, ceiling = 0, remote = false } = counters.get(key) ?? {};
    const reserve = { inUse: Math.max(0, inUse - limit), limit: reserveOf(scopes.policy) };
    return { kept: remote ? 0 : limit - open, reserve: ceiling > 0 ? reserve : undefined };
  });
  const { length } = plan.queue;
  const explanation: Explanation = {
    target,
    verdict,
    limits,
    toString: () => explanationText(scopes.target, verdict, length, limits, notes),
  };
  // What can be computed from the rest is not data.
  return Object.defineProperty(explanation, "toString", { enumerable: false });
}

/** What a claim counts, and over how many processes. */
function countsInWords(claim: Claim, target: NormalTarget): string {
  const isCluster = reachOf(claim.option) === "cluster";
  const words = partInWords(claim, target);
  if (words === "") return isCluster ? "connections from all servers" : "connections from this server";
  return `connections${words}${isCluster ? ", all servers" : ""}`;
}

/** Which connections of a process; none where it counts all of them. */
function partInWords({ counts, scope }: Claim, { binding, domain, host }: NormalTarget): string {
  if (counts === "server") return "";
  if (counts === "binding") return ` from binding ${binding}`;
  if (counts === "binding-domain") return ` from binding ${binding} to ${domain}`;
  if (counts === "binding-host") return ` from binding ${binding} to host ${host}`;
  const inner = scope?.kind === "domain" || scope?.kind === "host";
  const container = inner ? scope.within : scope;
  const to = inner ? ` to ${scope.kind === "host" ? "host " : ""}${scope.name}` : "";
  if (container?.kind === "binding") return ` from binding ${container.name}${to}`;
  if (container?.kind === "binding_group") return ` from group ${container.name}${to}`;
  return to;
}

const VERDICTS = {
  go: "would go at once",
  reserve: "would go at once, out of the reserve",
  wait: "would wait",
} as const;

function explanationText(
  { binding, group, domain, host }: NormalTarget,
  verdict: Explanation["verdict"],
  ahead: number,
  limits: readonly ExplainedLimit[],
  notes: readonly Notes[],
): string {
  const heading = `${domain} via ${binding}${group === DEFAULT ? "" : ` (group ${group})`}${host === undefined ? "" : `, host ${host}`}`;
  const queue = ahead === 0 ? "" : ` behind ${ahead} of the same queue`;
  const rows = limits.map((limit, index) => {
    const { kept = 0, reserve } = notes[index] ?? {};
    const full = limit.inUse >= limit.limit - kept;
    const cells = [full ? "FULL" : "ok", `${limit.inUse}/${limit.limit}`, limit.option, limit.counts];
    return { full, cells, notes: notesOf(limit, { kept, reserve }), origin: originOf(limit) };
  });
  const sorted = [...rows.filter(({ full }) => full), ...rows.filter(({ full }) => !full)];
  const widths = [0, 1, 2, 3].map((column) => Math.max(0, ...rows.map(({ cells }) => (cells[column] ?? "").length)));
  const lines = sorted.flatMap((row) => [
    `  ${[...row.cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)), row.notes].join("  ").trimEnd()}`,
    `        ${row.origin}`,
  ]);
  return [`${heading}: ${VERDICTS[verdict]}${queue}`, "", ...lines].join("\n");
}

function notesOf({ waiting, oldestWait }: ExplainedLimit, { kept, reserve }: Notes): string {
  const notes: string[] = [];
  if (waiting > 0) notes.push(`${waiting} waiting, oldest ${(oldestWait / 1000).toFixed(1)} s`);
  if (kept > 0) notes.push(`${kept} kept for a request passed over too often`);
  if (reserve !== undefined) notes.push(`reserve ${reserve.inUse}/${reserve.limit}`);
  return notes.join("  ");
}

/** Where the number comes from, and which other numbers it beat. */
function originOf({ setAt, lookedAt: looked }: ExplainedLimit): string {
  const said = ({ scope, limit }: ExplainedLimit["lookedAt"][number]): string => `${scope} (${limit ?? "not set"})`;
  if (setAt === undefined) {
    // None of them sets it: the two ends tell where one could.
    const all = looked.map(said);
    const ends = all.length > 2 ? `${all[0]}, … , ${all.at(-1)}` : all.join(", ");
    return `${placeOf(setAt)}; looked at: ${ends}`;
  }
  const lost = looked.filter(({ scope, limit }) => limit !== undefined && scope !== setAt.scope);
  const place = setAt.line === 0 ? placeOf(setAt) : `${placeOf(setAt)} in ${setAt.scope}`;
  return lost.length === 0 ? place : `${place}; it comes before ${lost.map(said).join(", ")}`;
}
