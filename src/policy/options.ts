// The option table: where each option is valid, its default, where it is looked up and in which order, what it counts.

import type { LimitOption } from "../types.js";
import { closest, nearMiss } from "./suggest.js";

/** Whether an option limits this process or all processes of the cluster. */
export function reachOf(option: LimitOption): "process" | "cluster" {
  return option.startsWith("cluster_") ? "cluster" : "process";
}

/** Kinds of scopes. All but `global` are also the keywords of their stanzas. */
export type ScopeKind = "global" | "binding_group" | "binding" | "domain" | "host";

/**
 * One place a target's limit can be written in: a container, and there the container's own options or those of its
 * stanzas for the target's domain or host. The containers of a target are its binding inside its group, its binding
 * outside of any group, its group, and the global scope.
 */
export interface Step {
  readonly in: "group binding" | "binding" | "group" | "global";
  readonly at: "self" | "domain" | "host";
}

/** What shares one counter. */
export type Counts = "server" | "binding" | "binding-domain" | "binding-host";

/** A by-value limit: the first step that sets the option gives the number, and each `counts` has its own counter. */
export interface Look {
  readonly option: LimitOption;
  /** Most specific first. */
  readonly order: readonly Step[];
  /** The built-in default. */
  readonly fallback: number;
  readonly counts: Counts;
  /** When a step `at: "host"` gives the number, each (binding, host) has the counter instead. */
  readonly hostCounts?: true;
  /** Whether the reserve lets low-volume targets past it. */
  readonly reserve?: true;
}

/**
 * Where a by-reference limit "behaves like" a by-value one: set at `step` it stands in for the value of `look` that
 * would be inherited from behind `rank` in the order of that look, or from its default.
 */
export interface StandIn {
  readonly step: Step;
  readonly look: Look;
  readonly rank: number;
}

/** By-reference limits: every step that sets the option makes a claim on one counter of its own. */
export interface Reference {
  readonly option: LimitOption;
  readonly steps: readonly Step[];
  readonly standIns: readonly StandIn[];
  /** The option whose claim in the global scope the reserve lets low-volume targets past. */
  readonly reserve?: true;
}

const step = (where: Step["in"], at: Step["at"]): Step => ({ in: where, at });

const GROUP_BINDING_DOMAIN = step("group binding", "domain");
const BINDING_DOMAIN = step("binding", "domain");
const GROUP_BINDING = step("group binding", "self");
const BINDING = step("binding", "self");
const GROUP = step("group", "self");
const GLOBAL_DOMAIN = step("global", "domain");
const GLOBAL_HOST = step("global", "host");
const GLOBAL = step("global", "self");
const BINDING_HOST = step("binding", "host");

/** Page "Configuration Scopes and Fallback"; the group after the binding is from that page's own example. */
const DOMAIN_ORDER = [
  GROUP_BINDING_DOMAIN,
  BINDING_DOMAIN,
  step("group", "domain"),
  GROUP_BINDING,
  BINDING,
  GROUP,
  GLOBAL_DOMAIN,
  GLOBAL,
] as const;

/** Page max_outbound_connections, "in the host Scope": no fallback to anything outside of hosts. */
const HOST_ORDER = [step("group binding", "host"), BINDING_HOST, step("group", "host"), GLOBAL_HOST] as const;

/** Page cluster_max_outbound_connections: one order over hosts and domains, and none of it inside a group. */
const CLUSTER_ORDER = [BINDING_HOST, GLOBAL_HOST, BINDING_DOMAIN, BINDING, GLOBAL_DOMAIN, GLOBAL] as const;

/** Page server_max_outbound_connections; in a group it is the value for each of its bindings. */
const BINDING_ORDER = [GROUP_BINDING, BINDING, GROUP] as const;

const UNLIMITED: number = Number.POSITIVE_INFINITY;

/** Connections of one binding to one domain. Always resolved, also when unlimited: the reserve asks this count. */
export const MAX: Look = {
  option: "max_outbound_connections",
  order: DOMAIN_ORDER,
  fallback: 32,
  counts: "binding-domain",
};
const MAX_HOST: Look = {
  option: "max_outbound_connections",
  order: HOST_ORDER,
  fallback: UNLIMITED,
  counts: "binding-host",
};
const SERVER_MAX_BINDING: Look = {
  option: "server_max_outbound_connections",
  order: BINDING_ORDER,
  fallback: UNLIMITED,
  counts: "binding",
};
const SERVER_MAX: Look = {
  option: "server_max_outbound_connections",
  order: [GLOBAL],
  fallback: 75_000,
  counts: "server",
  reserve: true,
};
const CLUSTER_MAX: Look = {
  option: "cluster_max_outbound_connections",
  order: CLUSTER_ORDER,
  fallback: UNLIMITED,
  counts: "binding-domain",
  hostCounts: true,
};
const CLUSTER_SERVER_MAX_BINDING: Look = { ...SERVER_MAX_BINDING, option: "cluster_server_max_outbound_connections" };
const CLUSTER_SERVER_MAX: Look = {
  option: "cluster_server_max_outbound_connections",
  order: [GLOBAL],
  fallback: UNLIMITED,
  counts: "server",
};

/** By-value limits, in the order in which they are shown. `MAX` is the first. */
export const LOOKS: readonly Look[] = [
  MAX,
  MAX_HOST,
  SERVER_MAX_BINDING,
  SERVER_MAX,
  CLUSTER_MAX,
  CLUSTER_SERVER_MAX_BINDING,
  CLUSTER_SERVER_MAX,
];

const CONTAINERS = ["group binding", "binding", "group", "global"] as const;
const EVERYWHERE = CONTAINERS.flatMap((where) => [step(where, "domain"), step(where, "host"), step(where, "self")]);

const rankOf = (look: Look, of: Step): number => look.order.indexOf(of);

/** By-reference limits. Page scope_max_outbound_connections. */
export const REFERENCES: readonly Reference[] = [
  {
    option: "scope_max_outbound_connections",
    steps: EVERYWHERE,
    standIns: [
      { step: GROUP_BINDING_DOMAIN, look: MAX, rank: rankOf(MAX, GROUP_BINDING_DOMAIN) },
      { step: BINDING_DOMAIN, look: MAX, rank: rankOf(MAX, BINDING_DOMAIN) },
      { step: GLOBAL, look: SERVER_MAX, rank: rankOf(SERVER_MAX, GLOBAL) },
    ],
    reserve: true,
  },
  {
    option: "cluster_scope_max_outbound_connections",
    steps: EVERYWHERE,
    standIns: [
      // The order of cluster_max knows no binding inside a group; such a stanza is just above the one outside.
      { step: GROUP_BINDING_DOMAIN, look: CLUSTER_MAX, rank: rankOf(CLUSTER_MAX, BINDING_DOMAIN) - 0.5 },
      { step: BINDING_DOMAIN, look: CLUSTER_MAX, rank: rankOf(CLUSTER_MAX, BINDING_DOMAIN) },
      { step: GLOBAL, look: CLUSTER_SERVER_MAX, rank: rankOf(CLUSTER_SERVER_MAX, GLOBAL) },
    ],
  },
];

/** Whether two steps are the same place. */
export function sameStep(a: Step, b: Step): boolean {
  return a.in === b.in && a.at === b.at;
}

const SERVER_SCOPES: readonly ScopeKind[] = ["global", "binding_group", "binding"];
const ALL_SCOPES: readonly ScopeKind[] = ["global", "binding_group", "binding", "domain", "host"];

/** The kinds of scopes an option is valid in. */
export const VALID_IN: { readonly [option in LimitOption]: readonly ScopeKind[] } = {
  max_outbound_connections: ALL_SCOPES,
  scope_max_outbound_connections: ALL_SCOPES,
  server_max_outbound_connections: SERVER_SCOPES,
  server_reserve_outbound_connections: ["global"],
  cluster_max_outbound_connections: ["global", "binding", "domain", "host"],
  cluster_scope_max_outbound_connections: ALL_SCOPES,
  cluster_server_max_outbound_connections: SERVER_SCOPES,
};

/** The option whose value is the size of the reserve, and its built-in default. */
export const RESERVE = { option: "server_reserve_outbound_connections", fallback: 200 } as const;

/** Names of the options, in the order in which they are printed. */
export const OPTIONS: readonly LimitOption[] = Object.keys(VALID_IN) as LimitOption[];

/** The kinds of scopes a stanza is valid in, by its keyword. */
export const STANZAS: ReadonlyMap<string, readonly ScopeKind[]> = new Map<string, readonly ScopeKind[]>([
  ["binding_group", ["global"]],
  ["binding", ["global", "binding_group"]],
  ["domain", ["global", "binding_group", "binding"]],
  ["host", ["global", "binding_group", "binding"]],
]);

/** The stanza that a keyword, in lower case, is or was most likely meant to be: `domian`, or `domaind.example`. */
export function meantStanza(keyword: string): ScopeKind | undefined {
  const known = [...STANZAS.keys()];
  const glued = (stanza: string) => keyword.startsWith(stanza) && (keyword === stanza || /[^\w-]/.test(keyword));
  return (known.find(glued) ?? closest(keyword, known, nearMiss)) as ScopeKind | undefined;
}

/** Whether a keyword, in lower case, is one of our options. */
export function isLimitOption(keyword: string): keyword is LimitOption {
  return Object.hasOwn(VALID_IN, keyword);
}
