// A compiled pattern as an automaton over the characters of names: a position wherever one character is matched.

import type { RE2JS } from "re2js";

/**
 * The positions of a pattern, in the order in which it is written. The first stands before the name and matches no
 * character; behind it come, where the pattern may begin anywhere, those that stand for what is before it.
 */
export interface Positions {
  /** The characters each matches. */
  readonly characters: readonly string[];
  /** The positions that may come behind each. */
  readonly next: readonly (readonly number[])[];
  /** Whether the pattern has matched when it has come to each: ahead of what, as a set of `AHEAD`. */
  readonly matched: readonly number[];
}

/** What is ahead of a position: a character that `\b` counts as part of a word, another one, or the end of the name. */
export const AHEAD = { word: 1, other: 2, end: 4 } as const;

const WORD = "0123456789_abcdefghijklmnopqrstuvwxyz";
/** Every character that a name in its normal form can hold. */
const ANY = `${WORD}!"#$%&'()*+,-./:;<=>?@[\\]^\`{|}~`;

/** What is on one side of a place in a name: one of so many characters, or no more. */
interface Side {
  readonly characters: string;
  readonly ahead: number;
}

const EDGE: Side = { characters: "", ahead: AHEAD.end };
const SIDES: readonly Side[] = [{ characters: ANY, ahead: AHEAD.word | AHEAD.other }];
/** Where a pattern asks for the boundaries of words, a position that matches both kinds of characters is made two. */
const SIDES_OF_WORDS: readonly Side[] = [
  { characters: WORD, ahead: AHEAD.word },
  { characters: ANY.slice(WORD.length), ahead: AHEAD.other },
];

/** An instruction of the engine. */
interface Instruction {
  readonly op: number;
  readonly out: number;
  readonly arg: number;
  matchRune(code: number): boolean;
}

/** Kinds of instructions; there are four for characters. Those behind the last are for look-behind. */
const OP = { either: 1, eitherOrMatch: 2, capture: 3, assert: 4, match: 6, nothing: 7, character: 8, last: 11 };
/** What is asserted. A name has no line ends: it is one line. */
const ASSERT = { begin: 1 | 4, end: 2 | 8, boundary: 16, noBoundary: 32 };

/** A pattern with more is left to the engine. */
const MOST_EDGES = 20_000;

/** A position that is being made: where the pattern goes on from it. */
interface Place {
  readonly characters: string;
  readonly from: number;
  readonly side: Side;
}

/** The positions of a compiled pattern; undefined if it is too large. */
export function positionsOf(compiled: RE2JS): Positions | undefined {
  const { inst, start } = compiled.re2().prog as { readonly inst: readonly Instruction[]; readonly start: number };
  if (inst.some(({ op }) => op > OP.last)) return undefined;
  const sides = inst.some(({ op, arg }) => op === OP.assert && arg >= ASSERT.boundary) ? SIDES_OF_WORDS : SIDES;
  const all = [...sides, EDGE];
  const isUnanchored = sides.some((side) =>
    all.some((ahead) => {
      const { steps, isMatch } = reach(inst, start, side, ahead);
      return isMatch || steps.length > 0;
    }),
  );

  const places: Place[] = [{ characters: "", from: start, side: EDGE }];
  if (isUnanchored) for (const side of sides) places.push({ characters: side.characters, from: start, side });
  const before = places.length;
  const numbers = sides.map(() => new Map<number, number>());
  for (const [at, instruction] of inst.entries()) {
    if (instruction.op < OP.character) continue;
    for (const [index, side] of sides.entries()) {
      const characters = matchedBy(instruction, side.characters);
      if (characters !== "") numbers[index]?.set(at, places.push({ characters, from: instruction.out, side }) - 1);
    }
  }

  let edges = 0;
  const next: number[][] = [];
  const matched: number[] = [];
  for (const [position, { from, side }] of places.entries()) {
    const following = position < before ? Array.from({ length: before - 1 }, (_, index) => index + 1) : [];
    let ends = 0;
    for (const [index, ahead] of all.entries()) {
      const { steps, isMatch } = reach(inst, from, side, ahead);
      if (isMatch) ends |= ahead.ahead;
      for (const step of steps) {
        const number = numbers[index]?.get(step);
        if (number !== undefined) following.push(number);
      }
    }
    edges += following.length;
    if (edges > MOST_EDGES) return undefined;
    next.push(following);
    matched.push(ends);
  }
  return { characters: places.map(({ characters }) => characters), next, matched };
}

function matchedBy(instruction: Instruction, characters: string): string {
  let matching = "";
  for (const character of characters) if (instruction.matchRune(character.charCodeAt(0))) matching += character;
  return matching;
}

/** The instructions for characters that may come next at a place in a name, and whether the pattern has matched there. */
function reach(
  inst: readonly Instruction[],
  from: number,
  behind: Side,
  { ahead }: Side,
): { readonly steps: readonly number[]; readonly isMatch: boolean } {
  const isBoundary = (behind.ahead === AHEAD.word) !== (ahead === AHEAD.word);
  let holds = isBoundary ? ASSERT.boundary : ASSERT.noBoundary;
  if (behind === EDGE) holds |= ASSERT.begin;
  if (ahead === AHEAD.end) holds |= ASSERT.end;
  const steps: number[] = [];
  const seen = new Set([from]);
  let isMatch = false;
  for (const at of seen) {
    const { op, out, arg } = inst[at] as Instruction;
    if (op === OP.match) isMatch = true;
    else if (op >= OP.character) steps.push(at);
    else if (op === OP.capture || op === OP.nothing || (op === OP.assert && (arg & ~holds) === 0)) seen.add(out);
    else if (op === OP.either || op === OP.eitherOrMatch) seen.add(out).add(arg);
  }
  return { steps, isMatch };
}
