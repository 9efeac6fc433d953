// Traffic: a text that says who wants connections when, and for how long; read with every mistake at once.

import { PolicyError } from "../errors.js";
import { identityProblem, normalName } from "../policy/name.js";
import { issueOf, MOST_ISSUES } from "../policy/note.js";
import { DEFAULT, dataOf } from "../policy/policy.js";
import { Source } from "../policy/source.js";
import { closest, hint } from "../policy/suggest.js";
import type { Milliseconds, Policy, PolicyIssue, Target } from "../types.js";

/** From 0 to below 1. */
export type Random = () => number;

/** One line of the traffic: requests for one target. */
export interface Flow {
  /** One object for each distinct target of a traffic. */
  readonly target: Target;
  readonly start: Milliseconds;
  readonly end: Milliseconds;
  /** Most requests. */
  readonly count: number;
  /** Mean time between two requests, which come at random; 0: all at once. */
  readonly gap: Milliseconds;
  /** How long a session keeps its connection. */
  readonly hold: (random: Random) => Milliseconds;
}

export interface Traffic {
  readonly source: string;
  /** By their start. */
  readonly flows: readonly Flow[];
}

interface Word {
  readonly text: string;
  readonly start: number;
}

const UNITS = new Map(Object.entries({ ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }));
const FOR_EVER = Number.POSITIVE_INFINITY;

const TIME = "a number and a unit, as in 250ms, 1.5s, 10m, 1h, 1d";
const MOMENT = `${TIME}, since any moment, as is 1896082200.25s`;
const NAME = "a name without white space and colons";

/** How the value of each key is read, undefined if it makes no sense; and how it is written. A line begins with the first. */
const FORMS = {
  domain: { read: nameOf, help: "a line begins with a domain or an address" },
  host: { read: nameOf, help: "a host or an address" },
  binding: { read: identityOf, help: NAME },
  group: { read: identityOf, help: NAME },
  rate: { read: gapOf, help: "as in 20/s, 5/m, 1000/h or 0.5/d" },
  count: {
    read: (text: string) => (/^[1-9]\d{0,9}$/.test(text) ? Number(text) : undefined),
    help: "a whole number from 1",
  },
  start: { read: timeOf, help: MOMENT },
  end: { read: timeOf, help: MOMENT },
  duration: { read: holdOf, help: `${TIME}; ~2s is 2s in the mean, at random` },
};
type Key = keyof typeof FORMS;
type Said = { [K in Key]?: ReturnType<(typeof FORMS)[K]["read"]> };
const KEYS = Object.keys(FORMS).slice(1) as Key[];

/** `1.5s` in milliseconds; undefined for what is no length of time. */
export function timeOf(text: string): Milliseconds | undefined {
  const [, number, unit = ""] = /^(\d{1,11}(?:\.\d{1,9})?)(ms|s|m|h|d)$/.exec(text) ?? [];
  return number === undefined ? undefined : Number(number) * (UNITS.get(unit) ?? 1);
}

function gapOf(text: string): Milliseconds | undefined {
  const [, number, unit = ""] = /^(\d{1,9}(?:\.\d{1,9})?)\/(s|m|h|d)$/.exec(text) ?? [];
  return Number(number) > 0 ? (UNITS.get(unit) ?? 1) / Number(number) : undefined;
}

function holdOf(text: string): Flow["hold"] | undefined {
  const time = timeOf(text.replace(/^~/, ""));
  if (time === undefined) return undefined;
  return text.startsWith("~") ? (random) => exponential(time, random) : () => time;
}

function nameOf(text: string): string | undefined {
  const normal = normalName(text);
  return "name" in normal ? normal.name : undefined;
}

function identityOf(text: string): string | undefined {
  return identityProblem(text) === undefined ? text : undefined;
}

/** How the times between events are distributed that come at random, each for itself. */
export const exponential = (mean: Milliseconds, random: Random): Milliseconds => -mean * Math.log(1 - random());

/**
 * Reads a traffic text: a line a flow, `DOMAIN KEY=VALUE …`; a word that begins with `#` begins a comment.
 *
 * @param policies the targets must be possible under each of them
 * @throws {PolicyError} with every mistake, at most 50
 */
export function parseTraffic(text: string, name: string, policies: readonly Policy[]): Traffic {
  return { source: name, flows: new Reader(new Source(name, text), policies).read() };
}

class Reader {
  readonly #source: Source;
  readonly #groups: readonly ReadonlyMap<string, string>[];
  readonly #issues: PolicyIssue[] = [];
  readonly #targets = new Map<string, Target>();

  constructor(source: Source, policies: readonly Policy[]) {
    this.#source = source;
    this.#groups = policies.map((policy) => dataOf(policy).groupOf);
  }

  read(): Flow[] {
    const { text } = this.#source;
    const flows: Flow[] = [];
    for (let start = 0; start < text.length && this.#issues.length < MOST_ISSUES; ) {
      const stop = text.indexOf("\n", start);
      const end = stop === -1 ? text.length : stop;
      const [domain, ...words] = wordsOf(text.slice(start, end), start);
      const flow = domain && this.#flow(domain, words);
      if (flow !== undefined) flows.push(flow);
      start = end + 1;
    }
    if (flows.length + this.#issues.length === 0)
      this.#issue({ text: "", start: 0 }, "syntax", "no line asks for a connection");
    const [first, ...rest] = this.#issues.slice(0, MOST_ISSUES);
    if (first !== undefined) throw new PolicyError([first, ...rest]);
    return sinceTheFirst(flows.sort((a, b) => a.start - b.start));
  }

  #flow(domain: Word, words: readonly Word[]): Flow | undefined {
    const before = this.#issues.length;
    const said = this.#said(domain, words);
    // What is wrong with a word is said once.
    if (this.#issues.length > before) return undefined;
    const { duration, start = 0, end = FOR_EVER, rate: gap = 0, count = gap === 0 ? 1 : FOR_EVER } = said;
    const { group, binding = DEFAULT } = said;
    if (duration === undefined) return this.#issue(domain, "syntax", "line without `duration`", FORMS.duration.help);
    if (end < FOR_EVER && gap === 0) return this.#issue(domain, "bad-value", "`end` without `rate`");
    if (end < start) return this.#issue(domain, "bad-value", "`end` before `start`");
    const known = this.#groups.map((groupOf) => groupOf.get(binding) ?? group).find((one) => one !== group);
    if (known !== undefined && group !== undefined)
      return this.#issue(domain, "bad-value", `group \`${group}\`, but the policy has its binding in \`${known}\``);
    return { target: this.#target(said), start, end, count, gap, hold: duration };
  }

  #said(domain: Word, words: readonly Word[]): Said {
    const said: Said = {};
    this.#set(said, "domain", domain);
    for (const word of words) {
      const [written = "", ...value] = word.text.split("=");
      const key = KEYS.find((one) => one === written);
      if (value.length === 0) this.#issue(word, "syntax", `\`${word.text}\` is not of the form \`key=value\``);
      else if (key === undefined) {
        const meant = closest(written.slice(0, 20), KEYS, hint);
        const help = meant === undefined ? `the keys are ${KEYS.join(", ")}` : `did you mean \`${meant}\`?`;
        this.#issue({ text: written, start: word.start }, "unknown-option", `unknown key \`${written}\``, help);
      } else if (key in said) this.#issue(word, "duplicate", `\`${key}\` is given twice`);
      else this.#set(said, key, { text: value.join("="), start: word.start + key.length + 1 });
    }
    return said;
  }

  #set(said: Said, key: Key, word: Word): void {
    const { read, help } = FORMS[key];
    const value = read(word.text);
    Object.assign(said, { [key]: value });
    if (value === undefined) this.#issue(word, "bad-value", `\`${word.text}\` is no ${key}`, help);
  }

  #target({ domain = "", host, binding, group }: Said): Target {
    const key = [domain, host, binding, group].join(" ");
    const target = this.#targets.get(key) ?? { domain, host, binding, bindingGroup: group };
    this.#targets.set(key, target);
    return target;
  }

  #issue({ text, start }: Word, rule: PolicyIssue["rule"], message: string, help?: string): undefined {
    const spot = this.#source.spot(start, start + text.length);
    this.#issues.push(issueOf({ spot, rule, message, help }));
  }
}

function wordsOf(line: string, offset: number): Word[] {
  const words: Word[] = [];
  for (const { 0: text, index } of line.matchAll(/\S+/g)) {
    if (text.startsWith("#")) break;
    words.push({ text, start: offset + index });
  }
  return words;
}

/** The earliest start is the beginning, so a log may count its seconds from any moment on. */
function sinceTheFirst(flows: readonly Flow[]): Flow[] {
  const first = flows[0]?.start ?? 0;
  return flows.map((flow) => ({ ...flow, start: flow.start - first, end: flow.end - first }));
}
