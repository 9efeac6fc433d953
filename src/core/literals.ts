// Texts that a name must hold for a pattern to match, and finding many of them in a name at once (Aho and Corasick).

import type { Positions } from "./positions.js";

/** Shorter texts are in too many names. */
const LEAST_LENGTH = 2;
/** Of a longer one the beginning is enough. */
const MOST_LENGTH = 64;

/** Texts by the position they begin at: whoever comes to it goes on through all of the text. */
type Chains = ReadonlyMap<number, string>;

function chainsOf({ characters, next, matched }: Positions): Chains {
  const entries = characters.map(() => 0);
  for (const position of next.flat()) entries[position] = (entries[position] as number) + 1;
  const behind = (position: number): number | undefined => {
    const [only, other] = next[position] ?? [];
    if (only === undefined || other !== undefined || matched[position] !== 0 || entries[only] !== 1) return undefined;
    return characters[position]?.length === 1 && characters[only]?.length === 1 ? only : undefined;
  };
  const inside = new Set(characters.map((_, position) => behind(position)));
  const chains = new Map<number, string>();
  for (const [first, character] of characters.entries()) {
    if (character.length !== 1 || inside.has(first)) continue;
    let text = character;
    for (let at = behind(first); at !== undefined && text.length < MOST_LENGTH; at = behind(at)) text += characters[at];
    if (text.length >= LEAST_LENGTH) chains.set(first, text);
  }
  return chains;
}

/** The texts of so many characters that the ways to a match come to first; undefined if one of them comes to none. */
function textsOnTheWay({ next, matched }: Positions, chains: Chains, length: number): ReadonlySet<string> | undefined {
  const texts = new Set<string>();
  const reached = new Set([0]);
  for (const position of reached) {
    if (matched[position] !== 0) return undefined;
    for (const following of next[position] ?? []) {
      const text = chains.get(following) ?? "";
      if (text.length < length) reached.add(following);
      else texts.add(text);
    }
  }
  return texts;
}

/** Sets of texts to choose from: a name that the pattern matches holds at least one text of each set. */
export function requiredTexts(positions: Positions): readonly ReadonlySet<string>[] {
  const chains = chainsOf(positions);
  const lengths = new Set([...chains.values()].map(({ length }) => length));
  return [...lengths].flatMap((length) => textsOnTheWay(positions, chains, length) ?? []);
}

/** In the row of a state: whether something is listed under what has been read. */
const IS_LISTED = 1;
const FIRST_COLUMN = 2;

/** Finds in one pass what is listed under the texts that a name holds. */
export class TextIndex<T> {
  /** A row for each state, which is the number of the row's first cell: the next state, by the column of a character. */
  readonly #cells: Int32Array;
  /** By character code; 0 if no text holds the character. */
  readonly #columns = new Uint8Array(128);
  /** By state: what is listed under the texts that end there. */
  readonly #listed = new Map<number, readonly T[]>();

  constructor(texts: ReadonlyMap<string, readonly T[]>) {
    let width = FIRST_COLUMN;
    let rows = 1;
    for (const text of texts.keys()) {
      rows += text.length;
      for (let at = 0; at < text.length; at++) this.#columns[text.charCodeAt(at)] ||= width++;
    }
    this.#cells = new Int32Array(rows * width);
    let last = 0;
    for (const [text, listed] of texts) {
      let state = 0;
      for (let at = 0; at < text.length; at++) {
        const cell = state + (this.#columns[text.charCodeAt(at)] as number);
        if (this.#cells[cell] === 0) this.#cells[cell] = last += width;
        state = this.#cells[cell] as number;
      }
      this.#listed.set(state, listed);
    }
    this.#fallBack(width);
  }

  /** Where a text does not go on, its end may be the beginning of another, or a text itself. */
  #fallBack(width: number): void {
    const cells = this.#cells;
    /** By state, the shorter ones first: the state of the longest beginning of a text that it ends with. */
    const fallbacks = new Map([[0, 0]]);
    for (const [state, fallback] of fallbacks) {
      const [own = [], others = []] = state === 0 ? [] : [this.#listed.get(state), this.#listed.get(fallback)];
      if (own.length + others.length > 0) {
        this.#listed.set(state, own.length === 0 ? others : [...own, ...others]);
        cells[state + IS_LISTED] = 1;
      }
      for (let column = FIRST_COLUMN; column < width; column++) {
        const next = cells[state + column] as number;
        const instead = state === 0 ? 0 : (cells[fallback + column] as number);
        if (next === 0) cells[state + column] = instead;
        else fallbacks.set(next, instead);
      }
    }
  }

  /** @param name in its normal form */
  find(name: string): Iterable<T> {
    const cells = this.#cells;
    const columns = this.#columns;
    let found: Set<readonly T[]> | undefined;
    for (let at = 0, state = 0; at < name.length; at++) {
      state = cells[state + (columns[name.charCodeAt(at)] as number)] as number;
      if (cells[state + IS_LISTED] !== 0) found = (found ?? new Set()).add(this.#listed.get(state) ?? []);
    }
    return found === undefined ? [] : new Set([...found].flat());
  }
}
