// A policy as data: a tree of scopes with the limits written in them, and which binding is in which group.

import type { RE2JS } from "re2js";
import type { LimitOption, Policy, PolicyIssue } from "../types.js";
import { RESERVE, type ScopeKind } from "./options.js";
import type { Spot } from "./source.js";

/** One option written in one scope. */
export interface Setting {
  /** Infinity for unlimited, which is written as -1. */
  readonly limit: number;
  readonly spot: Spot;
}

/** A linear-time, unanchored, case-blind pattern over normal names. */
export interface Pattern {
  readonly source: string;
  readonly matcher: RE2JS;
  /** Where it was written first. */
  readonly spot: Spot;
}

/** The `domain` or the `host` stanzas of one container. */
export interface Names {
  readonly literals: Map<string, Scope>;
  /** By their text, in the order written, which is the order asked. */
  readonly patterns: Map<string, Scope>;
}

/** One scope: the global one, or what all stanzas of one path say together. */
export interface Scope {
  readonly kind: ScopeKind;
  /** "" in the global scope; of a pattern its text in slashes. */
  readonly name: string;
  /** In words, for people: `binding_group "bulk" › domain "gmail.com"`. */
  readonly path: string;
  /** The scope whose stanza it is in; undefined for the global one. */
  readonly within: Scope | undefined;
  readonly pattern: Pattern | undefined;
  readonly settings: Map<LimitOption, Setting>;
  /** Empty where the kind of the scope cannot hold them. */
  readonly groups: Map<string, Scope>;
  readonly bindings: Map<string, Scope>;
  readonly domains: Names;
  readonly hosts: Names;
}

/** What a policy knows beside its scopes. */
export interface PolicyData {
  readonly root: Scope;
  /** The group of every binding the policy mentions; `DEFAULT` for those it puts into none. */
  readonly groupOf: ReadonlyMap<string, string>;
  /** Groups written into a binding outside of them (Momentum 3), for printing. */
  readonly writtenGroup: ReadonlyMap<string, string>;
}

/** The binding and the group that exist without being declared. */
export const DEFAULT = "default";

const GLOBAL_PATH = "global";

// A policy can have ten thousand domains: what a scope of its kind cannot hold, it does not carry.
const NO_SCOPES: Map<string, Scope> = new Map();
const NO_NAMES: Names = { literals: NO_SCOPES, patterns: NO_SCOPES };

/** A scope without limits. */
export function newScope(kind: ScopeKind, name: string, within: Scope | undefined, pattern?: Pattern): Scope {
  const isContainer = kind !== "domain" && kind !== "host";
  const names = (): Names => (isContainer ? { literals: new Map(), patterns: new Map() } : NO_NAMES);
  return {
    kind,
    name,
    path: within === undefined ? GLOBAL_PATH : pathOf(within, kind, name),
    within,
    pattern,
    settings: new Map(),
    groups: kind === "global" ? new Map() : NO_SCOPES,
    bindings: isContainer && kind !== "binding" ? new Map() : NO_SCOPES,
    domains: names(),
    hosts: names(),
  };
}

/** Whether a scope is written inside a group. */
export function isGrouped({ within }: Scope): boolean {
  return within !== undefined && (within.kind === "binding_group" || isGrouped(within));
}

/** What is written in a scope, by kind and name, in the order in which it is printed. */
export function scopesIn({ groups, bindings, domains, hosts }: Scope): readonly ReadonlyMap<string, Scope>[] {
  return [groups, bindings, domains.literals, domains.patterns, hosts.literals, hosts.patterns];
}

/** The size of the reserve under a policy; Infinity for unlimited. */
export function reserveOf({ root }: PolicyData): number {
  return root.settings.get(RESERVE.option)?.limit ?? RESERVE.fallback;
}

/** A limit as a policy says it: -1 for unlimited. */
export function asWritten(limit: number): number {
  return limit === Number.POSITIVE_INFINITY ? -1 : limit;
}

/** The path that a scope has, or would have if it were written. */
export function pathOf(within: Scope | string | undefined, kind: ScopeKind, name: string): string {
  const outer = typeof within === "object" ? within.path : within;
  const own = `${kind} ${quote(name)}`;
  return outer === undefined || outer === GLOBAL_PATH ? own : `${outer} › ${own}`;
}

/** A name in double quotes. Only `\"` and `\\` are escapes there; every other backslash stands for itself. */
export function quote(name: string): string {
  return `"${name.replace(/"|\\(?=["\\]|$)/g, "\\$&")}"`;
}

// A registered symbol, so that a policy made by one copy of this package (ESM) serves a limiter of another (CommonJS).
const DATA: unique symbol = Symbol.for("outbound-limiter.policy");

/** A frozen `Policy` around its data. `print` is passed in, so that this file stays below the printer. */
export function newPolicy(
  source: string,
  warnings: readonly PolicyIssue[],
  data: PolicyData,
  print: (data: PolicyData) => string,
): Policy {
  const policy: Policy = {
    source,
    warnings: Object.freeze([...warnings]),
    toString: () => print(data),
  };
  // Not enumerable: policies compare by what they say of themselves, not by positions.
  Object.defineProperty(policy, DATA, { value: data });
  Object.defineProperty(policy, "toString", { enumerable: false });
  return Object.freeze(policy);
}

/**
 * What a policy holds.
 *
 * @throws {TypeError} not a policy
 */
export function dataOf(policy: Policy): PolicyData {
  const data = typeof policy === "object" && policy !== null ? (policy as { [DATA]?: PolicyData })[DATA] : undefined;
  if (data === undefined) {
    throw new TypeError("Not a policy: make one with parsePolicy, loadPolicy or definePolicy");
  }
  return data;
}
