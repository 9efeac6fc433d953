// The rules of resolution once more, as slowly and plainly as possible: the resolver's tests compare with this. It shares
// no code with src and was written from the rules alone; each step quotes the rule it follows.
import type { ContainerInput, LimitOption, Limits, PolicyInput, Target } from "../../src/index.js";

/** One limit that applies to a target. Unlimited ones are left out, as explain() leaves them out. */
export interface NaiveLimit {
  readonly option: LimitOption;
  readonly limit: number;
  /** Two targets share a counter exactly when these are equal. */
  readonly counter: string;
  /** Where it was set, in words; undefined: the built-in default. */
  readonly scope: string | undefined;
}

/** A caller named another group for a binding than the policy does. */
export class WrongGroup extends TypeError {}

interface Stanza {
  readonly scope: string;
  readonly sets: Limits;
}

/** A container with its name in words; the stanza may be missing from the policy. */
interface Container {
  readonly scope: string;
  readonly input: ContainerInput | undefined;
}

const builtIn: { readonly [option in LimitOption]?: number } = {
  max_outbound_connections: 32,
  server_max_outbound_connections: 75_000,
  server_reserve_outbound_connections: 200,
};

// "Compared without case and without one trailing dot, in stanzas as in targets". The generators draw nothing that needs more.
function plainName(name: string): string {
  const lower = name.toLowerCase();
  return lower.endsWith(".") ? lower.slice(0, -1) : lower;
}

function own<T>(record: { readonly [name: string]: T } | undefined, name: string): T | undefined {
  return record !== undefined && Object.hasOwn(record, name) ? record[name] : undefined;
}

/** The group the policy puts a binding in; undefined if the policy never mentions the binding. */
function groupInPolicy(policy: PolicyInput, binding: string): string | undefined {
  // "A binding written both outside and inside its group is one binding": inside says which group it is.
  for (const [group, stanza] of Object.entries(policy.binding_group ?? {})) {
    if (own(stanza.binding, binding) !== undefined) return group;
  }
  const outside = own(policy.binding, binding);
  if (outside === undefined) return undefined;
  // "`binding "b" { binding_group = "g" }` (Momentum 3) puts `b` into `g`, as nesting does."
  // "A binding that no policy puts into a group belongs to the group `default`".
  return outside.binding_group ?? "default";
}

/** The binding and the group that hold for a target. */
export function resolvedBinding(policy: PolicyInput, target: Target): { binding: string; group: string } {
  // "A target without a binding uses `default`."
  const binding = target.binding ?? "default";
  const group = groupInPolicy(policy, binding);
  // "A binding the policy never mentions is fine: it takes what its group (the caller's, or `default`) [says]."
  if (group === undefined) return { binding, group: target.bindingGroup ?? "default" };
  // "A caller that names a group other than the policy's gets an error."
  if (target.bindingGroup !== undefined && target.bindingGroup !== group) throw new WrongGroup(target.bindingGroup);
  return { binding, group };
}

/**
 * The domain (or host) stanzas of one container that the name falls into, in the order they are asked.
 * "Within one container: a literal `domain "example.com"` stanza [...] is used first; else the pattern stanzas, in the order
 * written. [...] The same holds for `host`."
 */
function stanzasFor(container: Container, keyword: "domain" | "host", name: string | undefined): Stanza[] {
  // "`domain` with no host known yet: host stanzas make no claim."
  if (name === undefined) return [];
  const entries = Object.entries(container.input?.[keyword] ?? {});
  const prefix = container.scope === "global" ? "" : `${container.scope} › `;
  const literal: Stanza[] = [];
  const pattern: Stanza[] = [];
  for (const [written, sets] of entries) {
    const stanza = { scope: `${prefix}${keyword} "${written}"`, sets };
    if (written.startsWith("/")) {
      // "Patterns are unanchored, as in Momentum, and match without regard to case."
      if (new RegExp(written.slice(1, -1), "i").test(plainName(name))) pattern.push(stanza);
    } else if (plainName(written) === plainName(name)) {
      literal.push(stanza);
    }
  }
  return [...literal, ...pattern];
}

/** The container as a stanza of its own. */
function itself(container: Container): Stanza[] {
  return container.input === undefined ? [] : [{ scope: container.scope, sets: container.input }];
}

/** "Most specific first; the first stanza that *sets the option* wins". */
function firstThatSets(stanzas: readonly Stanza[], option: LimitOption): Stanza | undefined {
  return stanzas.find((stanza) => stanza.sets[option] !== undefined);
}

export function naiveResolve(policy: PolicyInput, target: Target): NaiveLimit[] {
  const { binding, group } = resolvedBinding(policy, target);
  const domain = plainName(target.domain);
  const host = target.host === undefined ? undefined : plainName(target.host);

  // "container: a stanza that can hold `domain` and `host` stanzas: the global scope, a `binding_group`, a `binding`."
  const groupInput = own(policy.binding_group, group);
  const global: Container = { scope: "global", input: policy };
  const inGroup: Container = { scope: `binding_group "${group}"`, input: groupInput };
  const inner: Container = {
    scope: `binding_group "${group}" › binding "${binding}"`,
    input: own(groupInput?.binding, binding),
  };
  const outer: Container = { scope: `binding "${binding}"`, input: own(policy.binding, binding) };

  const limits: NaiveLimit[] = [];
  const add = (
    option: LimitOption,
    limit: number | undefined,
    counter: readonly string[],
    scope: string | undefined,
  ) => {
    // "-1 for unlimited"; cluster_max is "unlimited", scope_max "off" by default: no limit, no counter.
    if (limit === undefined || limit === -1) return;
    limits.push({ option, limit, counter: JSON.stringify([option, ...counter]), scope });
  };

  // ── by value: max_outbound_connections ────────────────────────────────────────────────────────
  const maxOrder: Stanza[] = [
    ...stanzasFor(inner, "domain", domain), // 1. `binding_group` › `binding` › `domain`
    ...stanzasFor(outer, "domain", domain), // 2. `binding` › `domain` (a binding declared outside any group)
    ...stanzasFor(inGroup, "domain", domain), // 3. `binding_group` › `domain`
    ...itself(inner), // 4. `binding`: "the inner stanza the more specific"
    ...itself(outer),
    ...itself(inGroup), // 5. `binding_group`
    ...stanzasFor(global, "domain", domain), // 6. global `domain`
    ...itself(global), // 7. global
    // 8. the built-in default
  ];
  const max = firstThatSets(maxOrder, "max_outbound_connections");
  // "`scope_max` [in binding › domain] stands in for an X that would be *inherited* from a less specific stanza or from the
  // built-in default; an X written in the same stanza, or a more specific one, is enforced as well."
  if (!standsIn("scope_max_outbound_connections", maxOrder, max)) {
    add(
      "max_outbound_connections",
      max === undefined ? builtIn.max_outbound_connections : max.sets.max_outbound_connections,
      ["domain", group, binding, domain], // "by value: one counter per (binding, domain)"
      max?.scope,
    );
  }

  /** Whether a scope_max written at binding › domain is more specific than the stanza X was found in. */
  function standsIn(scopeMax: LimitOption, order: readonly Stanza[], found: Stanza | undefined): boolean {
    const behavesLikeMax = [...stanzasFor(inner, "domain", domain), ...stanzasFor(outer, "domain", domain)];
    // "In each container at most one `domain` stanza [...] contribute[s] (literal before pattern)": the first that sets it.
    const most = firstThatSets(behavesLikeMax, scopeMax);
    if (most === undefined) return false;
    if (found === undefined) return true; // the built-in default
    const place = (stanza: Stanza) => order.findIndex((other) => other.scope === stanza.scope);
    return place(most) < place(found);
  }

  // ── by value: max_outbound_connections in host stanzas ────────────────────────────────────────
  // "**host** is its own chain, with no fallback to the chain above: `binding_group › binding › host`, `binding › host`,
  // `binding_group › host`, global `host`, else unlimited."
  if (host !== undefined) {
    const hostOrder = [
      ...stanzasFor(inner, "host", host),
      ...stanzasFor(outer, "host", host),
      ...stanzasFor(inGroup, "host", host),
      ...stanzasFor(global, "host", host),
    ];
    const set = firstThatSets(hostOrder, "max_outbound_connections");
    // "in `host` stanzas one per (binding, host)"
    const counter = ["host", group, binding, host];
    add("max_outbound_connections", set?.sets.max_outbound_connections, counter, set?.scope);
  }

  // ── cluster_max_outbound_connections ──────────────────────────────────────────────────────────
  // "has one chain over both: `binding › host`, `host`, `binding › domain`, `binding`, `domain`, global."
  // Only a binding outside any group: "global, binding (not inside a group), domain, host".
  const clusterMaxOrder: Stanza[] = [
    ...stanzasFor(outer, "host", host),
    ...stanzasFor(global, "host", host),
    ...stanzasFor(outer, "domain", domain),
    ...itself(outer),
    ...stanzasFor(global, "domain", domain),
    ...itself(global),
  ];
  const clusterMax = firstThatSets(clusterMaxOrder, "cluster_max_outbound_connections");
  // The same "behaves like"; a cluster_scope_max at `binding_group › binding › domain` ranks just before `binding › domain`.
  const clusterMaxRanks: Stanza[] = [
    ...stanzasFor(outer, "host", host),
    ...stanzasFor(global, "host", host),
    ...stanzasFor(inner, "domain", domain),
    ...stanzasFor(outer, "domain", domain),
    ...itself(outer),
    ...stanzasFor(global, "domain", domain),
    ...itself(global),
  ];
  if (clusterMax !== undefined && !standsIn("cluster_scope_max_outbound_connections", clusterMaxRanks, clusterMax)) {
    // "When a host stanza gives the value the counter is per (binding, host), else per (binding, domain)."
    const byHost = [...stanzasFor(outer, "host", host), ...stanzasFor(global, "host", host)];
    const counter = byHost.some((stanza) => stanza.scope === clusterMax.scope)
      ? ["host", group, binding, host ?? ""]
      : ["domain", group, binding, domain];
    const limit = clusterMax.sets.cluster_max_outbound_connections;
    add("cluster_max_outbound_connections", limit, counter, clusterMax.scope);
  }

  // ── server_max_outbound_connections, cluster_server_max_outbound_connections ──────────────────
  for (const [option, scopeMax] of [
    ["server_max_outbound_connections", "scope_max_outbound_connections"],
    ["cluster_server_max_outbound_connections", "cluster_scope_max_outbound_connections"],
  ] as const) {
    // "global: all connections." Default "75000 (global)"; the cluster's: "off".
    // "(global: `server_max`) [...] stands in for an X that would be inherited [...] from the built-in default; an X written in
    // the same stanza [...] is enforced as well."
    const here = policy[option];
    if (here !== undefined) add(option, here, ["global"], "global");
    else if (policy[scopeMax] === undefined) add(option, builtIn[option], ["global"], undefined);

    // "binding: all connections of that binding. binding_group: by value for each of its bindings"
    const set = firstThatSets([...itself(inner), ...itself(outer), ...itself(inGroup)], option);
    add(option, set?.sets[option], ["binding", group, binding], set?.scope);
  }

  // ── by reference: scope_max_outbound_connections, cluster_scope_max_outbound_connections ──────
  // "Every enclosing stanza that sets it and that the target falls into makes a claim; all of them hold at once. In each
  // container at most one `domain` stanza and one `host` stanza contribute (literal before pattern, as above)."
  for (const option of ["scope_max_outbound_connections", "cluster_scope_max_outbound_connections"] as const) {
    for (const container of [inner, outer, inGroup, global]) {
      const claims = [
        firstThatSets(itself(container), option),
        firstThatSets(stanzasFor(container, "domain", domain), option),
        firstThatSets(stanzasFor(container, "host", host), option),
      ];
      // "by reference: one counter per stanza that sets it"
      for (const claim of claims) if (claim) add(option, claim.sets[option], [claim.scope], claim.scope);
    }
  }

  return limits;
}

/** Whether a limit is the server-wide ceiling, the only thing the reserve lifts: "global `server_max`, global `scope_max`". */
function isServerWide(limit: NaiveLimit): boolean {
  if (limit.option === "server_max_outbound_connections") return limit.scope === undefined || limit.scope === "global";
  return limit.option === "scope_max_outbound_connections" && limit.scope === "global";
}

/** May one more connection be opened beside those that are open? Counts by hand. */
export function naiveVerdict(policy: PolicyInput, open: readonly Target[], target: Target): "go" | "reserve" | "wait" {
  const claimed = open.map((other) => naiveResolve(policy, other).map((limit) => limit.counter));
  const reserve = policy.server_reserve_outbound_connections ?? builtIn.server_reserve_outbound_connections ?? 0;
  let verdict: "go" | "reserve" = "go";
  for (const limit of naiveResolve(policy, target)) {
    const inUse = claimed.filter((counters) => counters.includes(limit.counter)).length;
    if (inUse < limit.limit) continue;
    // "never a limit of a domain, a host, a binding or a group"; "`0` closes the door", to the reserve as well.
    if (!isServerWide(limit) || limit.limit === 0) return "wait";
    // "Up to `server_max + server_reserve`, a target is admitted if its (binding, domain) has no open connection"
    if (reserve !== -1 && inUse >= limit.limit + reserve) return "wait";
    if (open.some((other) => sameBindingAndDomain(policy, other, target))) return "wait";
    verdict = "reserve";
  }
  return verdict;
}

function sameBindingAndDomain(policy: PolicyInput, one: Target, other: Target): boolean {
  const left = resolvedBinding(policy, one);
  const right = resolvedBinding(policy, other);
  const sameBinding = left.binding === right.binding && left.group === right.group;
  return sameBinding && plainName(one.domain) === plainName(other.domain);
}
