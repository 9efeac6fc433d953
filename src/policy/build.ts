// Turns what a parser found into a policy: every check of names, places and values, shared by text and objects.

import { PolicyError } from "../errors.js";
import type { LimitOption, Policy, PolicyIssue } from "../types.js";
import { lint } from "./lint.js";
import { identityProblem, normalName } from "./name.js";
import { issueOf, MOST_ISSUES, type Note } from "./note.js";
import { isLimitOption, meantStanza, OPTIONS, type ScopeKind, STANZAS, VALID_IN } from "./options.js";
import { compilePattern, type PatternProblem } from "./pattern.js";
import {
  asWritten,
  DEFAULT,
  isGrouped,
  type Names,
  newPolicy,
  newScope,
  type Pattern,
  type PolicyData,
  type Scope,
} from "./policy.js";
import { printPolicy } from "./print.js";
import type { Spot } from "./source.js";
import { closest, hint, nearMiss } from "./suggest.js";

const MOST_WARNINGS = MOST_ISSUES * 2;
/** Mistakes are found out of order: of this many only the first in the source are kept. */
const MOST_NOTES = 10_000;

/** Its own look-up order passes groups by. */
const CLUSTER_MAX = "cluster_max_outbound_connections";

/** Collects scopes and limits, and every mistake made on the way. */
export class PolicyBuilder {
  readonly root: Scope = newScope("global", "", undefined);
  readonly #ignoreUnknown: boolean;
  readonly #issues: Note[] = [];
  readonly #warnings: Note[] = [];
  readonly #groups = new Map<string, { readonly group: string; readonly spot: Spot }>();
  readonly #mentioned = new Set<string>();
  readonly #written = new Map<string, string>();
  #ignored = 0;

  constructor(ignoreUnknown: boolean) {
    this.#ignoreUnknown = ignoreUnknown;
  }

  /** The policy. @throws {PolicyError} when a mistake was made. */
  finish(source: string): Policy {
    const [first, ...rest] = this.#firstIssues().map(issueOf);
    if (first !== undefined) throw new PolicyError([first, ...rest]);
    const groupOf = new Map<string, string>();
    for (const binding of this.#mentioned) groupOf.set(binding, this.#groups.get(binding)?.group ?? DEFAULT);
    const data: PolicyData = { root: this.root, groupOf, writtenGroup: this.#written };
    const warnings = [...this.#warnings, ...lint(data)].sort(inSourceOrder).slice(0, MOST_WARNINGS).map(issueOf);
    return newPolicy(source, warnings, data, printPolicy);
  }

  issue(spot: Spot, rule: PolicyIssue["rule"], message: string, help?: string): void {
    this.#issues.push({ spot, rule, message, help });
    if (this.#issues.length >= MOST_NOTES) this.#firstIssues();
  }

  #firstIssues(): Note[] {
    this.#issues.sort(inSourceOrder).splice(MOST_ISSUES);
    return this.#issues;
  }

  #warn(spot: Spot, rule: PolicyIssue["rule"], message: string, help?: string): void {
    if (this.#warnings.length < MOST_WARNINGS) this.#warnings.push({ spot, rule, message, help });
  }

  /**
   * Enters the stanza `keyword name { … }`. After a mistake the scope belongs to no policy: what is inside the stanza is
   * still checked. Undefined for a stanza that is not ours.
   */
  enter(within: Scope, keyword: string, name: string | undefined, spot: Spot, nameSpot: Spot): Scope | undefined {
    const kind = keyword.toLowerCase() as Exclude<ScopeKind, "global">;
    const validIn = STANZAS.get(kind);
    if (validIn === undefined) {
      this.#unknown(spot, keyword, "stanza", STANZAS.keys());
      const meant = meantStanza(kind);
      return meant === undefined ? undefined : newScope(meant, name ?? "", within);
    }
    const stray = (): Scope => newScope(kind, name ?? "", within);
    if (!validIn.includes(within.kind)) {
      this.issue(spot, "wrong-scope", `\`${kind}\` stanza in ${inWords(within.kind)}`, `valid in ${places(validIn)}`);
      return stray();
    }
    if (name === undefined) {
      this.issue(spot, "bad-name", `\`${kind}\` stanza without a name`, `write \`${kind} "name" { … }\``);
      return stray();
    }
    const problem = quotesProblem(name);
    if (problem !== undefined) {
      this.issue(nameSpot, "bad-name", `${kind} name ${problem}`);
      return stray();
    }
    const isName = kind === "domain" || kind === "host";
    return (
      (isName ? this.#names(within, kind, name, nameSpot) : this.#identity(within, kind, name, nameSpot)) ?? stray()
    );
  }

  #names(within: Scope, kind: "domain" | "host", name: string, spot: Spot): Scope | undefined {
    const names = kind === "domain" ? within.domains : within.hosts;
    if (name.startsWith("/")) return this.#pattern(within, kind, names, name, spot);
    const normal = normalName(name);
    if ("problem" in normal) {
      this.issue(spot, "bad-name", `${kind} name ${normal.problem}`);
      return undefined;
    }
    return addTo(names.literals, normal.name, () => newScope(kind, normal.name, within));
  }

  #pattern(within: Scope, kind: "domain" | "host", names: Names, name: string, spot: Spot): Scope | undefined {
    if (name.length < 2 || !name.endsWith("/")) {
      const whole = name.lastIndexOf("/") > 0 ? name.slice(0, name.lastIndexOf("/") + 1) : `${name}/`;
      this.issue(
        spot,
        "bad-pattern",
        "pattern that does not end with `/`",
        `write \`${whole}\`, with no flags behind it: case does not matter anyway`,
      );
      return undefined;
    }
    const written = names.patterns.get(name);
    if (written !== undefined) return written;
    const pattern: Pattern | PatternProblem = compilePattern(name.slice(1, -1), spot);
    if ("problem" in pattern) {
      this.issue(
        spot.part(pattern.start + 1, pattern.length),
        "bad-pattern",
        `bad pattern: ${pattern.problem}`,
        pattern.help,
      );
      return undefined;
    }
    const scope = newScope(kind, name, within, pattern);
    names.patterns.set(name, scope);
    return scope;
  }

  #identity(within: Scope, kind: "binding" | "binding_group", name: string, spot: Spot): Scope | undefined {
    const problem =
      identityProblem(name) ??
      (name.startsWith("/") ? "looks like a pattern, and only domains and hosts have patterns" : undefined);
    if (problem !== undefined) {
      this.issue(spot, "bad-name", `${kind} name ${problem}`);
      return undefined;
    }
    if (kind === "binding_group") return addTo(within.groups, name, () => newScope(kind, name, within));
    this.#mentioned.add(name);
    if (within.kind === "binding_group") this.#join(name, within.name, spot);
    return addTo(within.bindings, name, () => newScope(kind, name, within));
  }

  #join(binding: string, group: string, spot: Spot): void {
    const before = this.#groups.get(binding);
    if (before === undefined) this.#groups.set(binding, { group, spot });
    else if (before.group !== group) {
      this.issue(
        spot,
        "duplicate",
        `binding \`${binding}\` is put into two groups: \`${before.group}\` at ${placeOfSpot(before.spot)}, \`${group}\` at ${placeOfSpot(spot)}`,
        "a binding belongs to one group",
      );
    }
  }

  /** Sets `key = value`. `value` is undefined for lists and dictionaries, which none of our options takes. */
  set(within: Scope, key: string, value: string | undefined, spot: Spot, valueSpot: Spot): void {
    const keyword = key.toLowerCase();
    if (isLimitOption(keyword)) this.#limit(within, keyword, value, spot, valueSpot);
    else if (keyword === "binding_group" && within.kind === "binding") this.#member(within, value, valueSpot);
    else if (keyword === "binding_group" && !this.#ignoreUnknown) {
      this.issue(
        spot,
        "wrong-scope",
        `\`binding_group\` set in ${inWords(within.kind)}`,
        'valid in a binding; a group of its own is a stanza: `binding_group "name" { … }`',
      );
    } else this.#unknown(spot, key, "option", within.kind === "binding" ? [...OPTIONS, "binding_group"] : OPTIONS);
  }

  #limit(within: Scope, option: LimitOption, value: string | undefined, spot: Spot, valueSpot: Spot): void {
    const grouped = option === CLUSTER_MAX && within.kind === "binding" && isGrouped(within);
    if (!VALID_IN[option].includes(within.kind) || grouped) {
      const where = grouped ? "a binding inside a group" : inWords(within.kind);
      const not = option === CLUSTER_MAX ? "; a binding only outside of groups" : "";
      this.issue(
        spot,
        "wrong-scope",
        `\`${option}\` is not valid in ${where}`,
        `valid in ${places(VALID_IN[option])}${not}`,
      );
      return;
    }
    const limit = readLimit(value);
    if (limit === undefined) {
      const shown = value === undefined ? "a list" : `\`${shorten(value)}\``;
      const help = /^\d{1,9};$/.test(value ?? "")
        ? `write \`${value?.slice(0, -1)}\`: nothing ends a line`
        : "write a whole number from 0, or -1 for unlimited";
      this.issue(valueSpot, "bad-value", `${shown} is not a number of connections`, help);
      return;
    }
    const before = within.settings.get(option);
    if (before !== undefined) {
      this.#warn(
        spot,
        "duplicate",
        `\`${option}\` is set twice in ${within.path}: ${asWritten(before.limit)} at ${placeOfSpot(before.spot)}, then ${asWritten(limit)} at ${placeOfSpot(spot)}`,
        "the later one is used",
      );
    }
    if (option === CLUSTER_MAX && isGrouped(within)) {
      this.#warn(
        spot,
        "unreachable",
        `\`${option}\` is never looked up inside a group`,
        "write it in the same stanza outside of groups, or use `cluster_scope_max_outbound_connections`",
      );
    }
    within.settings.set(option, { limit, spot });
  }

  #member(binding: Scope, group: string | undefined, spot: Spot): void {
    const problem = group === undefined ? "is a list" : (quotesProblem(group) ?? identityProblem(group));
    if (problem !== undefined || group === undefined) {
      this.issue(spot, "bad-name", `binding_group name ${problem}`);
      return;
    }
    this.#join(binding.name, group, spot);
    if (!isGrouped(binding)) this.#written.set(binding.name, group);
  }

  #unknown(spot: Spot, word: string, what: "option" | "stanza", known: Iterable<string>): void {
    const keyword = word.toLowerCase();
    const miss = what === "stanza" ? meantStanza(keyword) : closest(keyword, known, nearMiss);
    if (this.#ignoreUnknown && miss === undefined) {
      // A whole ecelerity.conf has hundreds: they must not crowd out the warnings that matter.
      if (this.#ignored++ < MOST_ISSUES) this.#warn(spot, `unknown-${what}`, `ignored ${what} \`${shorten(word)}\``);
      return;
    }
    const otherKind = what === "option" ? STANZAS.has(keyword) : isLimitOption(keyword);
    const meant = miss ?? closest(keyword, known, hint);
    const help = otherKind
      ? what === "option"
        ? `\`${keyword}\` is a stanza: write \`${keyword} "name" { … }\``
        : `\`${keyword}\` is an option: write \`${keyword} = 20\``
      : meant === undefined
        ? undefined
        : `did you mean \`${meant}\`?`;
    this.issue(spot, `unknown-${what}`, `unknown ${what} \`${shorten(word)}\``, help);
  }
}

function addTo(scopes: Map<string, Scope>, name: string, make: () => Scope): Scope {
  let scope = scopes.get(name);
  if (scope === undefined) {
    scope = make();
    scopes.set(name, scope);
  }
  return scope;
}

function inSourceOrder({ spot: a }: Note, { spot: b }: Note): number {
  for (let index = 0; index < Math.max(a.order.length, b.order.length); index++) {
    const difference = (a.order[index] ?? -1) - (b.order[index] ?? -1);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Undefined when it is not a limit. A leading zero is refused: elsewhere in Momentum's files it makes a number octal. */
function readLimit(value: string | undefined): number | undefined {
  if (value === "-1") return Number.POSITIVE_INFINITY;
  if (value === undefined || !/^(?:0|[1-9]\d{0,15})$/.test(value)) return undefined;
  const limit = Number(value);
  return Number.isSafeInteger(limit) ? limit : undefined;
}

/** What a word processor makes of `"` belongs to a bare word. */
const quotesProblem = (name: string): string | undefined =>
  /^[\u2018-\u201f\u00ab\u00bb]/.test(name) ? 'is in typographic quotes: use straight ones, `"`' : undefined;

const shorten = (word: string): string => (word.length > 60 ? `${word.slice(0, 60)}…` : word || '""');

function placeOfSpot(spot: Spot): string {
  return spot.line === 0 ? spot.excerpt() : `${spot.source}:${spot.line}:${spot.column}`;
}

const inWords = (kind: ScopeKind): string => (kind === "global" ? "the global scope" : `a ${kind}`);

function places(kinds: readonly ScopeKind[]): string {
  const words = kinds.map((kind) => (kind === "global" ? "the global scope" : kind));
  const last = words.at(-1);
  return words.length < 2 ? `${last}` : `${words.slice(0, -1).join(", ")} and ${last}`;
}
