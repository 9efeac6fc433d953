// What differs between two policies: for given targets, or option by option.

import type { ExplainedLimit, LimitOption, Policy } from "../index.js";
import {
  asWritten,
  DEFAULT,
  dataOf,
  type Names,
  type PolicyData,
  quote,
  type Scope,
  type Setting,
  scopesIn,
} from "../policy/policy.js";

/** A number and where it was written; -1 is unlimited, as it is written. */
export interface Written {
  readonly limit: number;
  readonly option: LimitOption;
  /** null: the built-in default. */
  readonly setAt: {
    readonly scope: string;
    readonly source: string;
    readonly line: number;
    readonly column: number;
  } | null;
}

/** The same connections, limited otherwise. */
export interface LimitChange {
  readonly counts: string;
  readonly reach: "process" | "cluster";
  /** null: not limited. */
  readonly old: Written | null;
  readonly new: Written | null;
}

/**
 * The limits of one target that differ. A limit is what it counts and how many: which option says so, and in which
 * stanza, makes no difference to the mail.
 */
export function limitChanges(before: readonly ExplainedLimit[], after: readonly ExplainedLimit[]): LimitChange[] {
  const [old, now] = [tightest(before), tightest(after)];
  const changes: LimitChange[] = [];
  for (const key of new Set([...old.keys(), ...now.keys()])) {
    const [one, other] = [old.get(key), now.get(key)];
    const { counts, reach } = (one ?? other) as ExplainedLimit;
    if (one?.limit !== other?.limit) changes.push({ counts, reach, old: written(one), new: written(other) });
  }
  return changes;
}

/** Two limits on the same connections are as good as the lower of them. */
function tightest(limits: readonly ExplainedLimit[]): Map<string, ExplainedLimit> {
  const lowest = new Map<string, ExplainedLimit>();
  for (const limit of limits) {
    const key = `${limit.reach} ${limit.counts}`;
    const known = lowest.get(key);
    if (known === undefined || limit.limit < known.limit) lowest.set(key, limit);
  }
  return lowest;
}

const written = (limit: ExplainedLimit | undefined): Written | null =>
  limit === undefined ? null : { limit: limit.limit, option: limit.option, setAt: limit.setAt ?? null };

/** One option of one stanza; or the group of a binding, or which pattern is asked first. */
export interface StanzaChange {
  readonly scope: string;
  readonly what: LimitOption | "binding_group" | "order of patterns";
  readonly old: StanzaValue | null;
  readonly new: StanzaValue | null;
}

export interface StanzaValue {
  readonly value: number | string;
  /** null where no place can be named. */
  readonly setAt: { readonly source: string; readonly line: number; readonly column: number } | null;
}

/** Everything in which two policies differ; empty if all targets that leave their group to the policy get the same limits. */
export function stanzaChanges(before: Policy, after: Policy): StanzaChange[] {
  const [old, now] = [dataOf(before), dataOf(after)];
  return [...scopeChanges(old.root, now.root), ...groupChanges(old, now)];
}

/** At least one of the two is there. */
function* scopeChanges(old: Scope | undefined, now: Scope | undefined): Generator<StanzaChange> {
  const { path: scope } = (old ?? now) as Scope;
  for (const option of unionOf(old?.settings, now?.settings)) {
    const [one, other] = [old?.settings.get(option), now?.settings.get(option)];
    if (one?.limit !== other?.limit) yield { scope, what: option, old: stanzaValue(one), new: stanzaValue(other) };
  }
  const [before, after] = [old && scopesIn(old), now && scopesIn(now)];
  for (const kind of (after ?? before ?? []).keys()) {
    const [one, other] = [before?.[kind], after?.[kind]];
    for (const name of unionOf(one, other)) yield* scopeChanges(one?.get(name), other?.get(name));
  }
  if (old !== undefined && now !== undefined) {
    yield* orderChange(scope, old.domains, now.domains);
    yield* orderChange(scope, old.hosts, now.hosts);
  }
}

/** Keys of both, in the order of the second; what only the first has comes last. */
function unionOf<K>(old: ReadonlyMap<K, unknown> | undefined, now: ReadonlyMap<K, unknown> | undefined): Set<K> {
  return new Set([...(now?.keys() ?? []), ...(old?.keys() ?? [])]);
}

function stanzaValue(setting: Setting | undefined): StanzaValue | null {
  if (setting === undefined) return null;
  const { source, line, column } = setting.spot;
  return { value: asWritten(setting.limit), setAt: { source, line, column } };
}

/** Of two patterns that match a name the first is asked first, so that their order is part of what they mean. */
function* orderChange(scope: string, old: Names, now: Names): Generator<StanzaChange> {
  const inBoth = ({ patterns }: Names, { patterns: others }: Names): string[] =>
    [...patterns.keys()].filter((name) => setsSomething(patterns.get(name)) && setsSomething(others.get(name)));
  const [one, other] = [inBoth(old, now), inBoth(now, old)];
  const index = one.findIndex((name, place) => name !== other[place]);
  const [first, next] = [one[index], other[index]];
  if (first === undefined || next === undefined) return;
  const asked = (name: string): StanzaValue => ({ value: `${name} first`, setAt: null });
  yield { scope, what: "order of patterns", old: asked(first), new: asked(next) };
}

const setsSomething = (scope: Scope | undefined): boolean => scope !== undefined && scope.settings.size > 0;

function* groupChanges(old: PolicyData, now: PolicyData): Generator<StanzaChange> {
  for (const binding of unionOf(old.groupOf, now.groupOf)) {
    const [one, other] = [old.groupOf.get(binding) ?? DEFAULT, now.groupOf.get(binding) ?? DEFAULT];
    if (one === other) continue;
    const scope = `binding ${quote(binding)}`;
    yield { scope, what: "binding_group", old: { value: one, setAt: null }, new: { value: other, setAt: null } };
  }
}
