// Which stanza of a container answers for a name, or for all names of a pattern: without trying every name on every pattern.

import type { LimitOption } from "../types.js";
import type { Names, Scope } from "./policy.js";
import { covers, isClosed, type Shape, shapeOf } from "./shape.js";

/** More patterns are not tried on one name: a policy can have ten thousand names and as many patterns. */
const MOST_TRIED = 8;

/** A pattern stanza that sets an option. */
interface Candidate {
  readonly scope: Scope;
  readonly rank: number;
  readonly shape: Shape | undefined;
}

/** The pattern stanzas that set one option. */
interface Setters {
  /** The first stanza for each text that a pattern lists, where it matches nothing else. */
  readonly listed: ReadonlyMap<string, Candidate>;
  /** The others, in the order asked. */
  readonly general: readonly Candidate[];
}

/** The `domain` or `host` stanzas of one container, asked as a limiter asks them. */
export class Asked {
  readonly #names: Names;
  readonly #ranks = new Map<Scope, Candidate>();
  readonly #setters = new Map<LimitOption, Setters>();
  readonly #firstWithout = new Map<string, number>();

  constructor(names: Names) {
    this.#names = names;
    for (const scope of names.patterns.values()) {
      this.#ranks.set(scope, { scope, rank: this.#ranks.size, shape: shapeOf(scope.pattern?.source ?? "", "any") });
    }
  }

  /** The stanza that gives a name the option; undefined where none does, or where it would take too long to tell. */
  first(name: string, option: LimitOption): Scope | undefined {
    const literal = this.#names.literals.get(name);
    if (literal?.settings.has(option)) return literal;
    const { listed, general } = this.#settersOf(option);
    const known = listed.get(name);
    for (const [tried, { scope, rank }] of general.entries()) {
      if (known !== undefined && rank > known.rank) break;
      if (tried === MOST_TRIED) return undefined;
      if (scope.pattern?.matcher.test(name)) return scope;
    }
    return known?.scope;
  }

  /**
   * Whether every name that the pattern stanza matches gets `option` from it. With `beside`: every name that gets that
   * other option from it.
   */
  answersAll(scope: Scope, option: LimitOption, beside?: LimitOption): boolean {
    if (!scope.settings.has(option)) return false;
    const { rank = 0, shape } = this.#ranks.get(scope) ?? {};
    if (isClosed(shape)) {
      const asks = (text: string): boolean => beside === undefined || this.first(text, beside) === scope;
      return shape.texts.every((text) => this.first(text, option) === scope || !asks(text));
    }
    return this.#firstThatSets(option, beside) >= rank;
  }

  /** A stanza that is asked before the pattern stanza `scope` for every name that it matches, and sets the option. */
  before(scope: Scope, option: LimitOption): Scope | undefined {
    const own = this.#ranks.get(scope);
    if (own === undefined) return undefined;
    if (isClosed(own.shape)) {
      const isBefore = (answer: Scope | undefined): boolean => answer !== undefined && answer !== scope;
      const { texts } = own.shape;
      return texts.every((text) => isBefore(this.first(text, option))) ? this.first(texts[0] ?? "", option) : undefined;
    }
    const earlier = this.#settersOf(option).general.slice(0, MOST_TRIED);
    return earlier.find(({ rank, shape }) => rank < own.rank && covers(shape, own.shape))?.scope;
  }

  #settersOf(option: LimitOption): Setters {
    let setters = this.#setters.get(option);
    if (setters === undefined) {
      const candidates = [...this.#ranks.values()].filter(({ scope }) => scope.settings.has(option));
      const listed = new Map<string, Candidate>();
      for (const candidate of candidates) {
        if (!isClosed(candidate.shape)) continue;
        for (const text of candidate.shape.texts) if (!listed.has(text)) listed.set(text, candidate);
      }
      setters = { listed, general: candidates.filter(({ shape }) => !isClosed(shape)) };
      this.#setters.set(option, setters);
    }
    return setters;
  }

  /** The rank of the first stanza that sets `option` and not `beside`; -1 for a literal one, Infinity for none. */
  #firstThatSets(option: LimitOption, beside: LimitOption | undefined): number {
    const key = `${option} ${beside}`;
    let first = this.#firstWithout.get(key);
    if (first === undefined) {
      const sets = ({ settings }: Scope): boolean =>
        settings.has(option) && (beside === undefined || !settings.has(beside));
      const pattern = [...this.#names.patterns.values()].findIndex(sets);
      first = [...this.#names.literals.values()].some(sets) ? -1 : pattern === -1 ? Number.POSITIVE_INFINITY : pattern;
      this.#firstWithout.set(key, first);
    }
    return first;
  }
}
