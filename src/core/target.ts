// A target in its normal form: every name checked, the binding and its group filled in.

import { identityProblem, normalName } from "../policy/name.js";
import { DEFAULT, type PolicyData } from "../policy/policy.js";
import type { Target } from "../types.js";

/** What the rules are asked about. Two targets that mean the same connection have equal normal forms. */
export interface NormalTarget {
  readonly binding: string;
  readonly group: string;
  readonly domain: string;
  readonly host: string | undefined;
}

/**
 * Checks a target and brings it into its normal form.
 *
 * @throws {TypeError} malformed, or its group contradicts the policy
 */
export function normalTarget(target: Target, policy: PolicyData): NormalTarget {
  if (typeof target !== "object" || target === null)
    throw new TypeError(`A target must be an object, not ${shown(target)}`);
  if (Array.isArray(target)) throw new TypeError("A target must be an object, not an array: acquireAny takes several");
  if ("then" in target) throw new TypeError("A target must be an object, not a promise: await it first");
  const binding = identity("binding", target.binding) ?? DEFAULT;
  const given = identity("bindingGroup", target.bindingGroup);
  const group = policy.groupOf.get(binding) ?? given ?? DEFAULT;
  if (given !== undefined && given !== group) {
    throw new TypeError(
      `Target bindingGroup ${JSON.stringify(given)} contradicts the policy, which has binding ${JSON.stringify(binding)} in group ${JSON.stringify(group)}`,
    );
  }
  const domain = internetName("domain", target.domain);
  const host = target.host === undefined ? undefined : internetName("host", target.host);
  return { binding, group, domain, host };
}

function identity(field: string, value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== "string") throw new TypeError(`Target ${field} must be a string, not ${shown(value)}`);
  const problem = identityProblem(value);
  if (problem !== undefined) throw new TypeError(`Target ${field} ${shown(value)} ${problem}`);
  return value;
}

function internetName(field: string, value: unknown): string {
  if (typeof value !== "string") throw new TypeError(`Target ${field} must be a string, not ${shown(value)}`);
  const normal = normalName(value);
  if ("problem" in normal) throw new TypeError(`Target ${field} ${shown(value)} ${normal.problem}`);
  return normal.name;
}

function shown(value: unknown): string {
  if (typeof value !== "string") return typeName(value);
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
}

/** What something is that should be something else. */
export function typeName(value: unknown): string {
  return value === null ? "null" : typeof value;
}

/** A target in words, for messages: `gmail.com via mta-1`. */
export function describeTarget({ binding, domain }: NormalTarget): string {
  return `${domain} via ${binding}`;
}

/** The same target under another policy, whose word on the group counts before that of the caller. */
export function regroup(target: NormalTarget, given: unknown, policy: PolicyData): NormalTarget {
  const group = policy.groupOf.get(target.binding) ?? (typeof given === "string" ? given : DEFAULT);
  return { ...target, group };
}
