// (policy, target) → claims: which counters one connection takes a slot of, and the limit of each. Pure.

import {
  type Counts,
  LOOKS,
  type Look,
  MAX,
  REFERENCES,
  type Reference,
  type Step,
  sameStep,
} from "../policy/options.js";
import {
  asWritten,
  type Names,
  type PolicyData,
  pathOf,
  reserveOf,
  type Scope,
  type Setting,
} from "../policy/policy.js";
import type { LimitOption } from "../types.js";
import type { Matcher } from "./match.js";
import type { NormalTarget } from "./target.js";

/** One slot of one counter that a target needs. */
export interface Claim {
  readonly option: LimitOption;
  /** Infinity where the count is kept but not limited. */
  readonly limit: number;
  /** `limit`, and the reserve on top where the reserve lets low-volume targets past this limit. */
  readonly ceiling: number;
  /** Names the counter. Equal keys have equal limits: whatever a limit depends on is in its key. */
  readonly key: string;
  readonly counts: Counts | "scope";
  /** The place its limit comes from, as it stands in the key. */
  readonly origin: string;
  /** Where the limit was written; undefined for the built-in default. */
  readonly scope: Scope | undefined;
  /** The steps that were asked for it, most specific first. */
  readonly steps: readonly Step[];
}

/** What a target may be asked about: the stanzas of one policy that it falls into, by step. */
export interface Scopes {
  readonly policy: PolicyData;
  readonly target: NormalTarget;
  /** Most specific first; empty where nothing is written. */
  at(step: Step): readonly Scope[];
}

/** The stanzas a target falls into. */
export function scopesOf(policy: PolicyData, target: NormalTarget, matcher: Matcher): Scopes {
  const { root } = policy;
  const group = root.groups.get(target.group);
  const containers: { readonly [where in Step["in"]]: Scope | undefined } = {
    "group binding": group?.bindings.get(target.binding),
    binding: root.bindings.get(target.binding),
    group,
    global: root,
  };
  const inside = (names: Names, name: string | undefined): readonly Scope[] =>
    name === undefined ? [] : matcher.stanzas(names, name);
  return {
    policy,
    target,
    at(step) {
      const container = containers[step.in];
      if (container === undefined) return [];
      if (step.at === "self") return [container];
      return step.at === "domain" ? inside(container.domains, target.domain) : inside(container.hosts, target.host);
    },
  };
}

/** The path a step would be written at, where nothing is. */
function pathAt({ in: where, at }: Step, target: NormalTarget): string {
  let path = "global";
  if (where === "group" || where === "group binding") path = pathOf(path, "binding_group", target.group);
  if (where === "binding" || where === "group binding") path = pathOf(path, "binding", target.binding);
  return at === "self" ? path : pathOf(path, at, (at === "domain" ? target.domain : target.host) ?? "");
}

/** Where an option was found: at which step, and there in how specific a stanza. */
interface Found {
  readonly scope: Scope;
  readonly setting: Setting;
  readonly step: Step;
  readonly rank: number;
  /** 0 for the most specific stanza of the step. */
  readonly stanza: number;
}

function find(option: LimitOption, order: readonly Step[], scopes: Scopes): Found | undefined {
  for (const [rank, step] of order.entries()) {
    for (const [stanza, scope] of scopes.at(step).entries()) {
      const setting = scope.settings.get(option);
      if (setting !== undefined) return { scope, setting, step, rank, stanza };
    }
  }
  return undefined;
}

/**
 * The claims of a target: first the one that counts the connections of its binding to its domain, which exists also
 * where it is not limited; then every limited one.
 */
export function resolve(scopes: Scopes): readonly Claim[] {
  const reserve = reserveOf(scopes.policy);
  const references = REFERENCES.map((reference) => ({ reference, found: findAll(reference, scopes) }));
  const claims: Claim[] = [];
  for (const look of LOOKS) {
    const own = find(look.option, look.order, scopes);
    const replaced = references.some(({ reference, found }) => standsIn(reference, found, look, own));
    const claim = byValue(look, own, replaced, reserve, scopes.target);
    if (look === MAX || claim.limit !== Number.POSITIVE_INFINITY) claims.push(claim);
  }
  for (const { reference, found } of references) {
    for (const one of found) {
      const claim = byReference(reference, one, reserve);
      if (claim.limit !== Number.POSITIVE_INFINITY) claims.push(claim);
    }
  }
  return claims;
}

/** In each place the first stanza that sets the option, and all of those at once. */
function findAll({ option, steps }: Reference, scopes: Scopes): readonly Found[] {
  return steps.map((step) => find(option, [step], scopes)).filter((found) => found !== undefined);
}

/** Whether a by-reference limit takes the place of the value a look found, or of its default. */
function standsIn({ standIns }: Reference, found: readonly Found[], look: Look, own: Found | undefined): boolean {
  return standIns.some((standIn) => {
    if (standIn.look !== look) return false;
    const scope = found.find(({ step }) => sameStep(step, standIn.step));
    if (scope === undefined) return false;
    if (own === undefined || own.rank > standIn.rank) return true;
    return own.rank === standIn.rank && own.stanza > scope.stanza;
  });
}

function byValue(
  look: Look,
  found: Found | undefined,
  replaced: boolean,
  reserve: number,
  target: NormalTarget,
): Claim {
  const counts = look.hostCounts && found?.step.at === "host" ? "binding-host" : look.counts;
  const limit = replaced ? Number.POSITIVE_INFINITY : (found?.setting.limit ?? look.fallback);
  const origin = replaced ? "not limited" : (found?.scope.path ?? "built-in default");
  return {
    option: look.option,
    limit,
    ceiling: ceiling(limit, look.reserve, reserve),
    key: keyOfValue(look.option, counts, target, origin),
    counts,
    origin,
    scope: replaced ? undefined : found?.scope,
    steps: look.order,
  };
}

function byReference({ option, reserve: lifts }: Reference, { scope, setting, step }: Found, reserve: number): Claim {
  const lifted = lifts && step.in === "global" && step.at === "self";
  return {
    option,
    limit: setting.limit,
    ceiling: ceiling(setting.limit, lifted, reserve),
    key: `${option} @ ${scope.path}`,
    counts: "scope",
    origin: scope.path,
    scope,
    steps: [step],
  };
}

/** A limit of 0 closes the door: the reserve does not open it. */
function ceiling(limit: number, lifted: boolean | undefined, reserve: number): number {
  return lifted && limit > 0 ? limit + reserve : limit;
}

function keyOfValue(
  option: LimitOption,
  counts: Counts,
  { binding, domain, host }: NormalTarget,
  origin: string,
): string {
  if (counts === "server") return `${option} @ ${origin}`;
  if (counts === "binding") return `${option} ${binding} @ ${origin}`;
  return `${option} ${binding} ${counts === "binding-host" ? host : domain} @ ${origin}`;
}

/** The claim of another target of the same binding and group, if both fall into no stanza of a domain or a host. */
export function forName(claim: Claim, target: NormalTarget): Claim {
  if (claim.counts !== "binding-domain") return claim;
  return { ...claim, key: keyOfValue(claim.option, claim.counts, target, claim.origin) };
}

/** Every scope that was asked for a claim's limit, most specific first, and what it said. */
export function lookedAt(
  { option, steps }: Claim,
  scopes: Scopes,
): { readonly scope: string; readonly limit: number | undefined }[] {
  return steps.flatMap((step) => {
    const written = scopes.at(step);
    const said = written.map(({ path, settings }) => {
      const setting = settings.get(option);
      return { scope: path, limit: setting && asWritten(setting.limit) };
    });
    // A host step means nothing without a host; any other is shown also where nothing is written: here one could.
    const named = step.at !== "host" || scopes.target.host !== undefined;
    const literal = pathAt(step, scopes.target);
    return !named || said[0]?.scope === literal ? said : [{ scope: literal, limit: undefined }, ...said];
  });
}
