// What a policy may say but hardly means: limits that nothing reaches, stanzas that nothing asks, patterns too wide, zeros.

import type { LimitOption } from "../types.js";
import { Asked } from "./asked.js";
import { looseness } from "./loose.js";
import type { Note } from "./note.js";
import { RESERVE, reachOf } from "./options.js";
import {
  DEFAULT,
  isGrouped,
  type Names,
  type PolicyData,
  reserveOf,
  type Scope,
  type Setting,
  scopesIn,
} from "./policy.js";
import type { Spot } from "./source.js";

const MAX = "max_outbound_connections";
const SCOPE_MAX = "scope_max_outbound_connections";
const SERVER_MAX = "server_max_outbound_connections";
const CLUSTER_MAX = "cluster_max_outbound_connections";
const CLUSTER_SCOPE_MAX = "cluster_scope_max_outbound_connections";
const CLUSTER_SERVER_MAX = "cluster_server_max_outbound_connections";

/** Options of which only the first answer counts: a binding inside its group is asked before itself outside of it. */
const GROUPED_FIRST: ReadonlySet<LimitOption> = new Set([MAX, SERVER_MAX, CLUSTER_SERVER_MAX]);

/** There is always something to do about it. */
export interface Advice extends Note {
  readonly help: string;
}

/** Looks a sound policy over. The time it takes grows with the size of the policy and not with its square. */
export function lint(policy: PolicyData): Advice[] {
  const linter = new Linter(policy);
  linter.look(policy.root);
  return linter.notes;
}

/** A limit that holds wherever another one does, for the same connections and maybe more. */
interface Bound {
  readonly option: LimitOption;
  readonly scope: Scope;
}

class Linter {
  readonly notes: Advice[] = [];
  readonly #policy: PolicyData;
  readonly #reserve: number;
  readonly #asked = new Map<Names, Asked>();
  /** By option: the groups that have a binding with a value of its own. */
  readonly #overridden = new Map<LimitOption, Set<string>>();

  constructor(policy: PolicyData) {
    this.#policy = policy;
    this.#reserve = reserveOf(policy);
    this.#noteOverrides([...policy.root.bindings.values()]);
    for (const group of policy.root.groups.values()) this.#noteOverrides([...group.bindings.values()]);
    this.#lookAtReserve();
  }

  #noteOverrides(bindings: readonly Scope[]): void {
    for (const { name, settings } of bindings) {
      for (const option of settings.keys()) {
        const groups = this.#overridden.get(option) ?? new Set();
        this.#overridden.set(option, groups.add(this.#groupOf(name)));
      }
    }
  }

  look(scope: Scope): void {
    for (const [option, setting] of scope.settings) this.#lookAt(scope, option, setting);
    this.#lookAtPattern(scope);
    this.#lookAtName(scope);
    for (const inner of scopesIn(scope)) for (const each of inner.values()) this.look(each);
  }

  /** One note for one setting: the one that explains most. */
  #lookAt(scope: Scope, option: LimitOption, setting: Setting): void {
    const { limit, spot } = setting;
    const shadow = this.#shadowOf(scope, option);
    if (shadow !== undefined) {
      this.#note(
        spot,
        "unreachable",
        `\`${option}\` in ${scope.path} is never used: ${placeOf(option, shadow)} comes first wherever it could hold`,
        "take out the one that is not meant",
      );
    } else if (limit === 0 && option !== RESERVE.option) {
      this.#note(
        spot,
        "bad-value",
        `\`${option} = 0\` in ${scope.path} lets no connection through`,
        "if that is not what you want: -1 is unlimited",
      );
    } else if (limit !== Number.POSITIVE_INFINITY && option !== RESERVE.option && !isNeverLookedUp(scope, option)) {
      this.#lookAtReach(scope, option, setting);
    }
  }

  #lookAtReach(scope: Scope, option: LimitOption, setting: Setting): void {
    let lowest = setting.limit;
    let tightest: Bound | undefined;
    for (const bound of this.#bounds(scope, option)) {
      const most = this.#mostThrough(bound, scope, option);
      // A limit of 0 is a note of its own, and reason enough for all that it holds up.
      if (most < lowest && most > 0) [lowest, tightest] = [most, bound];
    }
    if (tightest === undefined) return;
    const { limit } = tightest.scope.settings.get(tightest.option) as Setting;
    const reserve = lowest === limit ? "" : ` and the reserve ${lowest - limit}`;
    this.#note(
      setting.spot,
      "unreachable",
      `\`${option} = ${setting.limit}\` in ${scope.path} can never be reached: ${placeOf(tightest.option, tightest.scope)} is ${limit}${reserve}`,
      "raise that one, or lower this one",
    );
  }

  /** The most connections of those that `option` in `scope` counts that a bound lets through. */
  #mostThrough({ option: by, scope: at }: Bound, scope: Scope, option: LimitOption): number {
    const { limit } = at.settings.get(by) as Setting;
    // The reserve gives a pair without a connection one, never a second: a pair gets no further than the limit itself.
    const exact = !isLifted(at, by) || isLifted(scope, option) || countsPair(scope, option);
    return limit === 0 || exact ? limit : limit + this.#reserve;
  }

  /** Limits of the same reach that hold for all connections that `option` in `scope` counts. */
  *#bounds(scope: Scope, option: LimitOption): Generator<Bound> {
    const isCluster = reachOf(option) === "cluster";
    const scopeMax = isCluster ? CLUSTER_SCOPE_MAX : SCOPE_MAX;
    const serverMax = isCluster ? CLUSTER_SERVER_MAX : SERVER_MAX;
    const container = containerOf(scope);
    for (const around of this.#around(container)) {
      for (const at of [around, this.#sameName(around, scope, scopeMax, option)]) {
        if (at?.settings.has(scopeMax) && !(at === scope && option === scopeMax)) yield { option: scopeMax, scope: at };
      }
    }
    for (const at of [this.#policy.root, this.#bindingWide(container, option, serverMax)]) {
      if (at?.settings.has(serverMax) && !(at === scope && option === serverMax))
        yield { option: serverMax, scope: at };
    }
    if (option === SCOPE_MAX && countsPair(scope, option) && scope.settings.has(MAX)) {
      // Unless the same binding, inside its group, has another value for the pair.
      if (this.#around(container)[0] === container) yield { option: MAX, scope };
    }
  }

  /** The containers that a target of a container falls into, in the order in which they are asked. */
  #around(container: Scope): readonly Scope[] {
    const { root } = this.#policy;
    if (container.kind === "global") return [root];
    if (container.kind === "binding_group") return [container, root];
    const { name } = container;
    const group = root.groups.get(this.#groupOf(name));
    return [group?.bindings.get(name), root.bindings.get(name), group, root].filter((scope) => scope !== undefined);
  }

  /** The stanza of a container that gives `option` to every name for which `beside` comes from `scope`. */
  #sameName(container: Scope, scope: Scope, option: LimitOption, beside: LimitOption): Scope | undefined {
    if (scope.kind !== "domain" && scope.kind !== "host") return undefined;
    const names = scope.kind === "domain" ? container.domains : container.hosts;
    const asked = this.#askedIn(names);
    if (scope.pattern === undefined) return asked.first(scope.name, option);
    const same = names.patterns.get(scope.name);
    return same !== undefined && asked.answersAll(same, option, same === scope ? beside : undefined) ? same : undefined;
  }

  /** Where the value of a `server_max` option comes from that holds for each binding of a container. */
  #bindingWide(container: Scope, option: LimitOption, serverMax: LimitOption): Scope | undefined {
    if (container.kind === "binding") {
      return this.#around(container).find(({ kind, settings }) => kind !== "global" && settings.has(serverMax));
    }
    // In a group it bounds what is counted for each binding, if no binding has a value of its own.
    const each = option === MAX || option === CLUSTER_MAX;
    const isOverridden = this.#overridden.get(serverMax)?.has(container.name) ?? false;
    return container.kind === "binding_group" && each && !isOverridden ? container : undefined;
  }

  /** A stanza that gives the option before this one is asked, whatever the target. */
  #shadowOf(scope: Scope, option: LimitOption): Scope | undefined {
    const container = containerOf(scope);
    const names = scope.kind === "host" ? container.hosts : container.domains;
    const before = scope.pattern === undefined ? undefined : this.#askedIn(names).before(scope, option);
    if (before !== undefined) return before;
    if (container.kind !== "binding" || isGrouped(container) || !GROUPED_FIRST.has(option)) return undefined;
    const inGroup = this.#policy.root.groups.get(this.#groupOf(container.name))?.bindings.get(container.name);
    if (inGroup === undefined) return undefined;
    if (scope === container) return inGroup.settings.has(option) ? inGroup : undefined;
    const grouped = scope.kind === "host" ? inGroup.hosts : inGroup.domains;
    if (scope.pattern === undefined) return this.#askedIn(grouped).first(scope.name, option);
    const same = grouped.patterns.get(scope.name);
    return same?.settings.has(option) ? same : undefined;
  }

  #lookAtPattern({ pattern, settings }: Scope): void {
    const found = pattern === undefined || settings.size === 0 ? undefined : looseness(pattern);
    if (pattern !== undefined && found !== undefined)
      this.#note(pattern.spot, "bad-pattern", found.problem, found.help);
  }

  /** As other programs write patterns, and addresses. */
  #lookAtName({ kind, name, path, pattern, settings }: Scope): void {
    const [setting] = settings.values();
    const odd = /[*@]/.exec(name)?.[0];
    if (pattern !== undefined || (kind !== "domain" && kind !== "host") || setting === undefined || odd === undefined)
      return;
    const end = name.slice(name.lastIndexOf(odd) + 1).replace(/^\./, "");
    const help =
      odd === "@" || end === ""
        ? `write \`${kind} "${end || "example.com"}"\``
        : `for all names below it, write a pattern: \`/\\.${end.replaceAll(".", String.raw`\.`)}$/\``;
    this.#note(
      setting.spot,
      "bad-name",
      `no mail goes to a ${kind} with \`${odd}\` in its name, as ${path} has it`,
      help,
    );
  }

  /** Momentum wants the one at 0 beside the other; here they work together. */
  #lookAtReserve(): void {
    const { root } = this.#policy;
    const reserve = root.settings.get(RESERVE.option);
    if (reserve === undefined || reserve.limit === 0) return;
    const { literals, patterns } = root.domains;
    const beside = [...literals.values(), ...patterns.values()].find(({ settings }) => settings.has(SCOPE_MAX));
    if (beside === undefined) return;
    this.#note(
      reserve.spot,
      "bad-value",
      `\`${RESERVE.option}\` is not 0 beside ${placeOf(SCOPE_MAX, beside)}: fine here, but not in Momentum`,
      "nothing to do, unless Momentum reads this policy, too: there it must be 0",
    );
  }

  #askedIn(names: Names): Asked {
    let asked = this.#asked.get(names);
    if (asked === undefined) {
      asked = new Asked(names);
      this.#asked.set(names, asked);
    }
    return asked;
  }

  #groupOf(binding: string): string {
    return this.#policy.groupOf.get(binding) ?? DEFAULT;
  }

  #note(spot: Spot, rule: Note["rule"], message: string, help: string): void {
    this.notes.push({ spot, rule, message, help });
  }
}

const containerOf = (scope: Scope): Scope =>
  (scope.kind === "domain" || scope.kind === "host" ? scope.within : undefined) ?? scope;

/** There is a warning about that already. */
const isNeverLookedUp = (scope: Scope, option: LimitOption): boolean => option === CLUSTER_MAX && isGrouped(scope);

/** Whether the reserve lets low-volume targets past it. */
const isLifted = ({ kind }: Scope, option: LimitOption): boolean =>
  kind === "global" && (option === SERVER_MAX || option === SCOPE_MAX);

/** Whether it counts the connections of one binding to one domain. */
function countsPair(scope: Scope, option: LimitOption): boolean {
  if (option === MAX || option === CLUSTER_MAX) return scope.kind !== "host";
  const isScopeMax = option === SCOPE_MAX || option === CLUSTER_SCOPE_MAX;
  return isScopeMax && scope.kind === "domain" && scope.pattern === undefined && scope.within?.kind === "binding";
}

/** An option and where it was written. */
function placeOf(option: LimitOption, { path, settings }: Scope): string {
  const { spot } = settings.get(option) as Setting;
  return `\`${option}\` in ${path}${spot.line === 0 ? "" : ` at ${spot.source}:${spot.line}:${spot.column}`}`;
}
