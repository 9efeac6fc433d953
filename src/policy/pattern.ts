// A pattern of a stanza, compiled for linear-time matching; what RE2 cannot run is refused with what to write instead.

import { RE2JS } from "re2js";
import type { Pattern } from "./policy.js";
import type { Spot } from "./source.js";

/** What is wrong with a pattern, and which part of its text is meant. */
export interface PatternProblem {
  readonly problem: string;
  readonly help?: string;
  readonly start: number;
  readonly length: number;
}

const NOT_LINEAR = "cannot be matched in linear time, as names from the internet must be";
const NOT_KNOWN = "is not known here";

/** PCRE that the engine refuses, and what says the same. Tried in order at the place the compiler names. */
const UNSUPPORTED: readonly { readonly at: RegExp; readonly problem: string; readonly help: string }[] = [
  {
    at: /^\(\?<?!/,
    problem: `negative look-around ${NOT_LINEAR}`,
    help: "give the names to leave out a stanza of their own: a literal one, or a pattern above this one, is asked first",
  },
  {
    at: /^\(\?<?=/,
    problem: `look-around ${NOT_LINEAR}`,
    help: "write the text itself: a pattern only says yes or no",
  },
  { at: /^\(\?>/, problem: `an atomic group ${NOT_KNOWN}`, help: "write `(?:…)`: matching takes linear time anyway" },
  { at: /^\(\?#/, problem: `a comment inside a pattern ${NOT_KNOWN}`, help: "write it behind a `#` on the line above" },
  {
    at: /^\(\?[a-z]*x/,
    problem: `the flag \`x\` ${NOT_KNOWN}`,
    help: "write the pattern without white space and comments",
  },
  {
    at: /^(?:\(\?(?:[R\d&(]|P[>=])|\\[1-9kg])/,
    problem: `a back-reference, recursion or condition ${NOT_LINEAR}`,
    help: "spell the alternatives out: `(?:one|two)`",
  },
  { at: /^\\Z/, problem: `\`\\Z\` ${NOT_KNOWN}`, help: "write `$`" },
  {
    at: /^\\[A-Za-z]/,
    problem: `this escape ${NOT_KNOWN}`,
    help: "names hold letters, digits, `-`, `_` and `.`: write those, or a class like `[a-z0-9]`",
  },
  {
    at: /^(?:[*+?]|\{\d*,?\d*\})\+/,
    problem: `a possessive quantifier ${NOT_KNOWN}`,
    help: "write it without the last `+`: matching takes linear time anyway",
  },
];

/** Compiles the text between the slashes. */
export function compilePattern(source: string, spot: Spot): Pattern | PatternProblem {
  if (source === "") return { problem: "empty pattern", help: "`/.*/` matches every name", start: 0, length: 0 };
  if (/[\r\n]/.test(source)) return { problem: "pattern holds a line end", start: 0, length: source.length };
  try {
    return { source, matcher: RE2JS.compile(source, RE2JS.CASE_INSENSITIVE), spot };
  } catch (error) {
    return diagnose(
      source,
      error as { readonly error?: unknown; readonly input?: unknown; readonly message?: unknown },
    );
  }
}

function diagnose(
  source: string,
  thrown: { readonly error?: unknown; readonly input?: unknown; readonly message?: unknown },
): PatternProblem {
  const reason = String(thrown.error ?? thrown.message);
  // The compiler puts the flag for "without regard to case" in front of what it quotes.
  const quoted = typeof thrown.input === "string" ? thrown.input.replace(/^\(\?i\)/, "") : "";
  const found = offsets(source).filter((offset) => source.startsWith(quoted, offset));
  for (const start of found) {
    for (const { at, problem, help } of UNSUPPORTED) {
      const [piece] = at.exec(source.slice(start)) ?? [];
      if (piece !== undefined) return { problem, help, start, length: Math.max(piece.length, quoted.length) };
    }
  }
  const [start] = quoted === "" ? [] : found;
  return start === undefined
    ? { problem: reason, start: 0, length: source.length }
    : { problem: reason, start, length: quoted.length };
}

/** Where something of a pattern begins: not behind a backslash, and not inside a class. */
function offsets(source: string): number[] {
  const found: number[] = [];
  const token = /\\.|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]|./gs;
  for (const { index } of source.matchAll(token)) found.push(index);
  return found;
}
