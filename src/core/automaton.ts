// Runs patterns over a name, all their positions at once, one bit each: how long it takes depends on the length alone.

import { AHEAD, type Positions } from "./positions.js";

/** Positions in one word. */
export const WORD_SIZE = 32;
const CODES = 128;

/** A pattern, and the number it is told by. */
export interface Numbered {
  readonly number: number;
  readonly positions: Positions;
}

/** By character code: what the character is to a position before it. */
const KINDS: Uint8Array = Uint8Array.from({ length: CODES }, (_, code) =>
  /\w/.test(String.fromCharCode(code)) ? AHEAD.word : AHEAD.other,
);

/** Patterns whose positions have room in one word together, or one pattern that takes more words. */
export class Automaton {
  readonly #words: number;
  /** By word: the positions before the name. */
  readonly #start: Int32Array;
  /** By word: the positions on which the one behind them may follow. Most ways go there. */
  readonly #forward: Int32Array;
  /** By word: the positions on which they may follow themselves. */
  readonly #again: Int32Array;
  /** All other ways, four numbers each: word and bits they come from, word and bits they go to. */
  readonly #jumps: Int32Array;
  /** Behind so many numbers: the ways from before the name, which are gone once only. */
  readonly #laterJumps: number;
  /** By word and character code: the positions that match the character. */
  readonly #letters: Int32Array;
  /** By what is ahead and word: the positions at which a pattern has matched. */
  readonly #matched: Int32Array;
  readonly #patterns: readonly { readonly number: number; readonly bits: number }[];

  constructor(patterns: readonly Numbered[]) {
    const words = Math.ceil(patterns.reduce((sum, { positions }) => sum + positions.next.length, 0) / WORD_SIZE);
    this.#words = words;
    this.#start = new Int32Array(words);
    this.#forward = new Int32Array(words);
    this.#again = new Int32Array(words);
    this.#letters = new Int32Array(words * CODES);
    this.#matched = new Int32Array(words * (AHEAD.end + 1));
    const [jumps, firstJumps] = [new Map<string, number[]>(), new Map<string, number[]>()];
    let bit = 0;
    this.#patterns = patterns.map(({ number, positions: { characters, next, matched } }) => {
      const first = bit;
      let bits = 0;
      set(this.#start, first >> 5, first);
      for (const [position, following] of next.entries()) {
        const word = bit >> 5;
        for (const character of characters[position] ?? "") {
          set(this.#letters, word * CODES + character.charCodeAt(0), bit);
        }
        for (const ahead of Object.values(AHEAD)) {
          if (((matched[position] ?? 0) & ahead) !== 0) set(this.#matched, ahead * words + word, bit);
        }
        const others = new Map<number, number>();
        for (const to of following.map((other) => first + other)) {
          if (to === bit) set(this.#again, word, bit);
          else if (to === bit + 1) set(this.#forward, word, bit);
          else others.set(to >> 5, (others.get(to >> 5) ?? 0) | (1 << to));
        }
        // Those that go the same way go it together.
        for (const [to, targets] of others) {
          const ways = position === 0 ? firstJumps : jumps;
          const way = `${word} ${to} ${targets}`;
          ways.set(way, [word, (ways.get(way)?.[1] ?? 0) | (1 << bit), to, targets]);
        }
        bits |= 1 << bit++;
      }
      return { number, bits: words === 1 ? bits : -1 };
    });
    this.#jumps = Int32Array.from([...jumps.values(), ...firstJumps.values()].flat());
    this.#laterJumps = jumps.size * 4;
  }

  /** Adds the numbers of the patterns that match a name in its normal form. */
  match(name: string, found: number[]): void {
    const hits = this.#words === 1 ? this.#runWord(name) : this.#runWords(name);
    if (hits === 0) return;
    for (const { number, bits } of this.#patterns) if ((hits & bits) !== 0) found.push(number);
  }

  /** The positions at which patterns have matched. */
  #runWord(name: string): number {
    const letters = this.#letters;
    const jumps = this.#jumps;
    const matched = this.#matched;
    const forward = this.#forward[0] as number;
    const again = this.#again[0] as number;
    const within = (matched[AHEAD.word] as number) | (matched[AHEAD.other] as number);
    let bits = this.#start[0] as number;
    let hits = 0;
    let ways = jumps.length;
    for (let at = 0; at < name.length && bits !== 0; at++) {
      const code = name.charCodeAt(at);
      if ((bits & within) !== 0) hits |= bits & (matched[KINDS[code] as number] as number);
      let next = ((bits & forward) << 1) | (bits & again);
      for (let way = 0; way < ways; way += 4) {
        if ((bits & (jumps[way + 1] as number)) !== 0) next |= jumps[way + 3] as number;
      }
      ways = this.#laterJumps;
      bits = next & (letters[code] as number);
    }
    return hits | (bits & (matched[AHEAD.end] as number));
  }

  /** The same for one pattern in several words. Not 0 if it matches. */
  #runWords(name: string): number {
    const words = this.#words;
    const jumps = this.#jumps;
    let bits = this.#start.slice();
    let next = this.#start.slice();
    let ways = jumps.length;
    for (let at = 0; ; at++) {
      const code = name.charCodeAt(at);
      const ahead = (at < name.length ? (KINDS[code] as number) : AHEAD.end) * words;
      let carry = 0;
      for (let word = 0; word < words; word++) {
        const from = bits[word] as number;
        const hits = from & (this.#matched[ahead + word] as number);
        if (hits !== 0) return hits;
        const on = from & (this.#forward[word] as number);
        next[word] = (on << 1) | carry | (from & (this.#again[word] as number));
        carry = on >>> 31;
      }
      if (at === name.length) return 0;
      for (let way = 0; way < ways; way += 4) {
        if (((bits[jumps[way] as number] as number) & (jumps[way + 1] as number)) === 0) continue;
        const to = jumps[way + 2] as number;
        next[to] = (next[to] as number) | (jumps[way + 3] as number);
      }
      ways = this.#laterJumps;
      for (let word = 0; word < words; word++) {
        next[word] = (next[word] as number) & (this.#letters[word * CODES + code] as number);
      }
      [bits, next] = [next, bits];
    }
  }
}

function set(words: Int32Array, word: number, bit: number): void {
  words[word] = (words[word] as number) | (1 << bit);
}
