// A plan and its counters as an Explanation: plain data, and a text for the terminal.

import { placeOf } from "../errors.js";
import { DEFAULT } from "../policy/policy.js";
import type { CounterState, ExplainedLimit, Explanation, Snapshot, Target } from "../types.js";
import type { Counter, Counters, Plan } from "./counters.js";
import { type Claim, lookedAt, reserveOf, type Scopes } from "./resolve.js";
import type { NormalTarget } from "./target.js";

/** The state of one counter. `oldest` is when the oldest request that it holds up began to wait. */
export function stateOf(counter: Counter, oldest: number | undefined, now: number): CounterState {
  const full = counter.inUse >= counter.limit;
  return {
    key: counter.key,
    limit: counter.limit,
    inUse: counter.inUse,
    waiting: full ? counter.wanted : 0,
    oldestWait: full && oldest !== undefined ? Math.round(now - oldest) : 0,
  };
}

/** When the oldest waiting request that claims a counter began to wait, by counter. */
export function oldestWaits(counters: Counters): Map<Counter, number> {
  const oldest = new Map<Counter, number>();
  for (const plan of counters.waitingPlans.values()) {
    const since = plan.queue.first?.since ?? Number.POSITIVE_INFINITY;
    for (const counter of plan.counters) oldest.set(counter, Math.min(since, oldest.get(counter) ?? since));
  }
  return oldest;
}

/** The limits of a plan, with their counts and where they come from. `only` leaves others out. */
export function explainLimits(
  plan: Plan,
  scopes: Scopes,
  counters: Counters,
  now: number,
  only: (counter: Counter) => boolean = () => true,
): ExplainedLimit[] {
  const current = counters.countersOf(plan);
  const oldest = counters.waiting === 0 ? undefined : oldestWaits(counters);
  return plan.claims.flatMap((claim, index) => {
    const counter = current[index];
    if (counter === undefined || claim.limit === Number.POSITIVE_INFINITY || !only(counter)) return [];
    const setting = claim.scope?.settings.get(claim.option);
    return {
      ...stateOf(counter, oldest?.get(counter), now),
      option: claim.option,
      counts: countsInWords(claim, scopes.target),
      reach: claim.option.startsWith("cluster_") ? "cluster" : "process",
      setAt:
        claim.scope === undefined || setting === undefined
          ? undefined
          : { scope: claim.scope.path, source: setting.source, line: setting.line, column: setting.column },
      lookedAt: lookedAt(claim, scopes),
    };
  });
}

/** Everything about one target. */
export function explain(target: Target, plan: Plan, scopes: Scopes, counters: Counters, now: number): Explanation {
  const verdict = counters.verdict(plan);
  const limits = explainLimits(plan, scopes, counters, now);
  const reserve = { inUse: counters.reserveInUse, limit: reserveOf(scopes.policy) };
  const lifted = new Set(plan.claims.filter(({ limit, ceiling }) => ceiling > limit).map(({ key }) => key));
  const explanation: Explanation = {
    target,
    verdict,
    limits,
    toString: () => explanationText(scopes.target, verdict, limits, (limit) => (lifted.has(limit.key) ? reserve : undefined)),
  };
  // What can be computed from the rest is not data.
  return Object.defineProperty(explanation, "toString", { enumerable: false });
}

/** What a claim counts. */
function countsInWords({ counts, scope }: Claim, { binding, domain, host }: NormalTarget): string {
  if (counts === "server") return "connections from this server";
  if (counts === "binding") return `connections from binding ${binding}`;
  if (counts === "binding-domain") return `connections from binding ${binding} to ${domain}`;
  if (counts === "binding-host") return `connections from binding ${binding} to host ${host}`;
  if (scope === undefined) return "connections";
  const inner = scope.kind === "domain" || scope.kind === "host";
  const container = inner ? scope.within : scope;
  const to = inner ? ` to ${scope.kind === "host" ? "host " : ""}${scope.name}` : "";
  if (container?.kind === "binding") return `connections from binding ${container.name}${to}`;
  if (container?.kind === "binding_group") return `connections from group ${container.name}${to}`;
  return inner ? `connections${to}` : "connections from this server";
}

const VERDICTS = { go: "would go at once", reserve: "would go at once, out of the reserve", wait: "would wait" } as const;

function explanationText(
  { binding, group, domain, host }: NormalTarget,
  verdict: Explanation["verdict"],
  limits: readonly ExplainedLimit[],
  reserveFor: (limit: ExplainedLimit) => Snapshot["reserve"] | undefined,
): string {
  const heading = `${domain} via ${binding}${group === DEFAULT ? "" : ` (group ${group})`}${host === undefined ? "" : `, host ${host}`}`;
  const isFull = ({ inUse, limit }: ExplainedLimit): boolean => inUse >= limit;
  const rows = [...limits.filter(isFull), ...limits.filter((limit) => !isFull(limit))].map((limit) => ({
    limit,
    cells: [isFull(limit) ? "FULL" : "ok", `${limit.inUse}/${limit.limit}`, limit.option, limit.counts],
    notes: notesOf(limit, reserveFor(limit)),
  }));
  const widths = [0, 1, 2, 3].map((column) => Math.max(0, ...rows.map(({ cells }) => (cells[column] ?? "").length)));
  const lines = rows.flatMap(({ limit, cells, notes }) => [
    `  ${[...cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)), notes].join("  ").trimEnd()}`,
    `        ${originOf(limit)}`,
  ]);
  return [`${heading}: ${VERDICTS[verdict]}`, "", ...lines].join("\n");
}

function notesOf({ waiting, oldestWait }: ExplainedLimit, reserve: Snapshot["reserve"] | undefined): string {
  const notes: string[] = [];
  if (waiting > 0) notes.push(`${waiting} waiting, oldest ${(oldestWait / 1000).toFixed(1)} s`);
  if (reserve !== undefined) notes.push(`reserve ${reserve.inUse}/${reserve.limit}`);
  return notes.join("  ");
}

/** Where the number comes from, and which other numbers it beat. */
function originOf({ setAt, lookedAt: looked }: ExplainedLimit): string {
  const said = ({ scope, limit }: ExplainedLimit["lookedAt"][number]): string => `${scope} (${limit ?? "not set"})`;
  if (setAt === undefined) return `${placeOf(setAt)}; looked at: ${looked.map(said).join(", ")}`;
  const lost = looked.filter(({ scope, limit }) => limit !== undefined && scope !== setAt.scope);
  const place = setAt.line === 0 ? placeOf(setAt) : `${placeOf(setAt)} in ${setAt.scope}`;
  return lost.length === 0 ? place : `${place}; it comes before ${lost.map(said).join(", ")}`;
}
