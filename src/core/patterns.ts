// The patterns of one container: which of them match a name, without trying every one.

import type { RE2JS } from "re2js";
import type { Pattern } from "../policy/policy.js";
import { Automaton, type Numbered, WORD_SIZE } from "./automaton.js";
import { requiredTexts, TextIndex } from "./literals.js";
import { positionsOf } from "./positions.js";

/** A pattern is tried where the name holds a text without which it cannot match; one that needs none, always. */
export class PatternSet<T extends { readonly pattern: Pick<Pattern, "matcher"> | undefined }> {
  readonly #all: readonly T[];
  readonly #always: readonly Automaton[];
  readonly #byText: TextIndex<Automaton>;
  /** Patterns too large for an automaton. */
  readonly #engines: readonly { readonly number: number; readonly engine: RE2JS }[];

  /** @param all in the order in which those that match are told */
  constructor(all: readonly T[]) {
    this.#all = all;
    const engines: { readonly number: number; readonly engine: RE2JS }[] = [];
    const patterns: Choosing[] = [];
    for (const [number, { pattern }] of all.entries()) {
      const positions = pattern && positionsOf(pattern.matcher);
      if (positions !== undefined) patterns.push({ number, positions, choices: requiredTexts(positions) });
      else if (pattern !== undefined) engines.push({ number, engine: pattern.matcher });
    }
    this.#engines = engines;
    const textsOf = rarest(patterns);
    const always = patterns.filter((pattern) => !textsOf.has(pattern));
    this.#always = together(always).map((group) => new Automaton(group));
    const byText = new Map<string, Automaton[]>();
    for (const group of together([...textsOf.keys()])) {
      const automaton = new Automaton(group);
      for (const text of new Set(group.flatMap((pattern) => [...(textsOf.get(pattern) ?? [])]))) {
        const listed = byText.get(text);
        if (listed === undefined) byText.set(text, [automaton]);
        else listed.push(automaton);
      }
    }
    this.#byText = new TextIndex(byText);
  }

  /** Those whose patterns match a name in its normal form. */
  match(name: string): readonly T[] {
    const found: number[] = [];
    for (const automaton of this.#always) automaton.match(name, found);
    for (const automaton of this.#byText.find(name)) automaton.match(name, found);
    for (const { number, engine } of this.#engines) if (engine.test(name)) found.push(number);
    return found.sort((a, b) => a - b).map((number) => this.#all[number] as T);
  }
}

/** A pattern that can choose by which texts it is found. */
interface Choosing extends Numbered {
  readonly choices: readonly ReadonlySet<string>[];
}

/** The texts that the fewest patterns have; without those patterns that need none. */
function rarest(patterns: readonly Choosing[]): Map<Choosing, ReadonlySet<string>> {
  const uses = new Map<string, number>();
  for (const text of patterns.flatMap(({ choices }) => [...new Set(choices.flatMap((texts) => [...texts]))]))
    uses.set(text, (uses.get(text) ?? 0) + 1);
  const usesOf = (texts: ReadonlySet<string>): number => {
    let sum = 0;
    for (const text of texts) sum += uses.get(text) ?? 0;
    return sum;
  };
  const chosen = new Map<Choosing, ReadonlySet<string>>();
  for (const pattern of patterns) {
    const [first] = [...pattern.choices].sort((a, b) => usesOf(a) - usesOf(b));
    if (first !== undefined) chosen.set(pattern, first);
  }
  return chosen;
}

/** Groups that have room in one word; what has not is alone. */
function together<P extends Numbered>(patterns: readonly P[]): P[][] {
  const groups: P[][] = [];
  let room = 0;
  for (const pattern of patterns) {
    const size = pattern.positions.next.length;
    if (size > room) {
      groups.push([]);
      room = WORD_SIZE;
    }
    groups.at(-1)?.push(pattern);
    room -= size;
  }
  return groups;
}
