// What a limiter did and how its limits stand, by what the policy wrote: the numbers behind the metrics.

import { resolve } from "../core/resolve.js";
import { isLimiterError } from "../errors.js";
import { type Audience, audienceOf, type Events } from "../observer.js";
import { RESERVE } from "../policy/options.js";
import { dataOf, type Scope, scopesIn } from "../policy/policy.js";
import type { CounterState, Limiter, Milliseconds, Observer, Policy, Snapshot } from "../types.js";

export type Labels = Readonly<Record<string, string>>;

/** One series. */
export interface Sample {
  readonly labels: Labels;
  value: number;
}

/** What a key says. The names in it hold no white space: not even `@` or `global` can be taken for a scope. */
const KEY = /^([a-z_]+)(?: \S+){0,2}? @ (global$|built-in default$|(?:binding_group|binding|domain|host) ".*)/s;

/** The option of a counter and the scope its limit was written in, `setAt.scope` of `explain`, from the counter's key. */
export function ruleOf(key: string): { readonly option: string; readonly scope: string } | undefined {
  // Another copy of this package may make other keys.
  const [, option, scope] = KEY.exec(key) ?? [];
  return option === undefined || scope === undefined ? undefined : { option, scope };
}

interface Limit {
  readonly option: string;
  readonly scope: string;
  readonly limit: number;
}

/** The limits that a policy writes, and the built-in ones that it leaves in force. */
function limitsOf(policy: Policy): Limit[] {
  const data = dataOf(policy);
  const target = { binding: "", group: "", domain: "", host: undefined };
  // What a target meets that falls into no stanza.
  const met = resolve({
    policy: data,
    target,
    at: ({ in: where, at }) => (where === "global" && at === "self" ? [data.root] : []),
  });
  const builtIn = met
    .filter(({ scope }) => scope === undefined)
    .map(({ option, origin, limit }) => ({ option, scope: origin, limit }));
  return [...writtenIn(data.root), ...builtIn].filter(
    ({ option, limit }) => option !== RESERVE.option && limit !== Number.POSITIVE_INFINITY,
  );
}

function* writtenIn(scope: Scope): Generator<Limit> {
  for (const [option, { limit }] of scope.settings) yield { option, scope: scope.path, limit };
  for (const scopes of scopesIn(scope)) for (const inner of scopes.values()) yield* writtenIn(inner);
}

/** One option written in one scope, and all the counters it has. */
export class Rule {
  readonly labels: Labels;
  limit = 0;
  /** Whether any connection was open under it, or any request waited for it, so that there is more to say of it. */
  isUsed = false;
  /** By this process. */
  inUse = 0;
  /** Use of its fullest counter, by all processes that share it. */
  fullest = 0;
  fullCounters = 0;
  waiting = 0;
  oldestWait: Milliseconds = 0;
  /** Requests that waited for it and do no longer, how long they did, and how many of all it held up were refused. */
  waits = 0;
  waited: Milliseconds = 0;
  refusals = 0;

  constructor(labels: Labels) {
    this.labels = labels;
  }

  /** As if no counter of it were live. */
  clear(): void {
    this.inUse = this.fullest = this.fullCounters = this.waiting = this.oldestWait = 0;
  }

  add({ inUse, here = inUse, limit, waiting, oldestWait }: CounterState): void {
    this.isUsed = true;
    this.inUse += here;
    this.fullest = Math.max(this.fullest, inUse);
    if (inUse >= limit) this.fullCounters++;
    this.waiting += waiting;
    this.oldestWait = Math.max(this.oldestWait, oldestWait);
  }

  endWait(waited: Milliseconds): void {
    this.waits++;
    this.waited += waited;
  }
}

/** How things stand at one moment. */
export interface Reading {
  readonly book: Book;
  readonly snapshot: Snapshot;
  /** Of all requests. */
  readonly oldestWait: Milliseconds;
  /** Those in force. */
  readonly rules: readonly Rule[];
}

/** Where the two distributions go. */
export interface Distributions {
  readonly waits: (seconds: number) => void;
  readonly holds: (seconds: number) => void;
}

// What may happen starts at 0: a series that begins with 1 shows no increase.
const GRANTS: readonly Labels[] = [
  { waited: "false", reserve: "false" },
  { waited: "false", reserve: "true" },
  { waited: "true", reserve: "false" },
  { waited: "true", reserve: "true" },
];
const ERRORS = [
  "ERR_LIMITER_TIMEOUT",
  "ERR_LIMITER_QUEUE_FULL",
  "ERR_LIMITER_CLOSED",
  "ERR_LIMITER_CLUSTER",
  "aborted",
];

/**
 * The book of one limiter. An event costs a few additions; counters are walked when the book is read.
 *
 * INVARIANT: its rules are those of the policy in force, whether anything uses them or not: an alert that divides use by
 * limit keeps its series, and what an edit did shows at once.
 */
export class Book implements Observer {
  readonly grants: readonly Sample[] = GRANTS.map((labels) => ({ labels, value: 0 }));
  readonly refusals: Map<string, Sample> = new Map(ERRORS.map((error) => [error, { labels: { error }, value: 0 }]));
  updates = 0;
  reloadFailures = 0;
  /** Whether the last reload failed. */
  isOutdated = false;
  /** Whether the engine of the cluster is away, or learns what it lost. */
  isClusterDown = false;
  lostLeases = 0;
  readonly #limiter: Limiter;
  readonly #distributions: Distributions;
  readonly #audience: Audience;
  #rules: ReadonlyMap<string, Rule>;
  #reading: Reading | undefined;

  constructor(limiter: Limiter, distributions: Distributions) {
    this.#limiter = limiter;
    this.#distributions = distributions;
    this.#audience = audienceOf(limiter);
    this.#rules = this.#inForce(new Map());
  }

  queued({ blockedBy }: Events["queued"]): void {
    for (const state of blockedBy) {
      const rule = this.#find(state);
      if (rule !== undefined) rule.isUsed = true;
    }
  }

  granted({ waited, reserve, blockedBy: [cause] }: Events["granted"]): void {
    const hasWaited = waited > 0 || cause !== undefined;
    (this.grants[(hasWaited ? 2 : 0) + (reserve ? 1 : 0)] as Sample).value++;
    this.#distributions.waits(waited / 1000);
    if (cause !== undefined) this.#find(cause)?.endWait(waited);
  }

  refused({ error, waited, blockedBy: [cause] }: Events["refused"]): void {
    const code = isLimiterError(error) ? error.code : "aborted";
    const sample = this.refusals.get(code);
    if (sample === undefined) this.refusals.set(code, { labels: { error: code }, value: 1 });
    else sample.value++;
    // The first of them, so that each refusal is counted once.
    if (cause === undefined) return;
    const rule = this.#find(cause);
    if (rule === undefined) return;
    rule.isUsed = true;
    rule.refusals++;
    if (waited > 0) rule.endWait(waited);
  }

  released({ held }: Events["released"]): void {
    this.#distributions.holds(held / 1000);
  }

  updated(): void {
    this.updates++;
    this.isOutdated = false;
    this.#rules = this.#inForce(this.#rules);
  }

  cluster({ state }: Events["cluster"]): void {
    this.isClusterDown = state !== "up";
  }

  lost(): void {
    this.lostLeases++;
  }

  reloadFailed(): void {
    this.reloadFailures++;
    this.isOutdated = true;
  }

  /** Looks at all counters: once for everything that is read in the same turn. */
  read(): Reading {
    if (this.#reading !== undefined) return this.#reading;
    const snapshot = this.#limiter.snapshot();
    let oldestWait = 0;
    for (const rule of this.#rules.values()) rule.clear();
    for (const state of snapshot.counters) {
      this.#find(state)?.add(state);
      oldestWait = Math.max(oldestWait, state.oldestWait);
    }
    const reading = { book: this, snapshot, oldestWait, rules: [...this.#rules.values()] };
    this.#reading = reading;
    queueMicrotask(() => {
      this.#reading = undefined;
    });
    return reading;
  }

  /** The rules of the policy in force. Those that were in force before keep their sums. */
  #inForce(before: ReadonlyMap<string, Rule>): ReadonlyMap<string, Rule> {
    for (const rule of before.values()) rule.clear();
    const rules = new Map<string, Rule>();
    for (const { option, scope, limit } of limitsOf(this.#audience.policy)) {
      const id = `${option} ${scope}`;
      const rule = before.get(id) ?? new Rule({ option, scope });
      rule.limit = limit;
      rules.set(id, rule);
    }
    return rules;
  }

  /** The rule of a counter. Of a policy before: an update is told first, and then whom it admitted. */
  #find({ key }: CounterState): Rule | undefined {
    const rule = ruleOf(key);
    return rule && this.#rules.get(`${rule.option} ${rule.scope}`);
  }
}
