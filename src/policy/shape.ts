// What a pattern matches, where that is plain to see: a few texts, fixed at either end or with anything around them.

/** How the pattern says what may stand there: nothing (`^`, `$`), anything (`.*`), or it does not say, which is anything. */
export type End = "fixed" | "open" | "unsaid";

/** A name matches if it holds one of the texts, with nothing before or behind it where that end is fixed. */
export interface Shape {
  /** In lower case. */
  readonly texts: readonly string[];
  readonly start: End;
  readonly end: End;
}

/** Every name has something around or instead of an empty text. */
export const EVERYTHING: Shape = { texts: [""], start: "open", end: "open" };

const MOST_TEXTS = 32;
/** Names are not longer. */
const LONGEST = 256;

/**
 * The shape of a pattern; undefined where it is not plain to see. With `dots: "meant"`, a `.` that no quantifier follows
 * is read as the dot that was most likely meant, and not as what it is: any character.
 */
export function shapeOf(source: string, dots: "any" | "meant"): Shape | undefined {
  if (source.length > LONGEST) return undefined;
  if (/^(?:\^?\.[*+]\$?|\^?\.|\.\$)$/.test(source)) return EVERYTHING;
  const texts: string[] = [];
  const ends = new Set<string>();
  let [start, end]: [End, End] = ["unsaid", "unsaid"];
  for (const alternative of alternativesOf(source)) {
    // An end that is escaped leaves its backslash to the body, which then cannot be read.
    const [, head = "", body = "", tail = ""] = /^(\^?(?:\.\*)?)(.*?)((?:\.\*)?\$?)$/s.exec(alternative) ?? [];
    [start, end] = [endOf(head), endOf(tail)];
    ends.add(`${start} ${end}`);
    const read = new TextReader(body, dots).read();
    if (read === undefined) return undefined;
    texts.push(...read);
  }
  return ends.size === 1 && texts.length <= MOST_TEXTS ? { texts, start, end } : undefined;
}

const endOf = (written: string): End => (written === "" ? "unsaid" : written.includes(".*") ? "open" : "fixed");

/** The alternatives of the whole pattern, not those inside its groups. */
export function alternativesOf(source: string): string[] {
  const found = [""];
  let depth = 0;
  for (const [token] of source.matchAll(TOKEN)) {
    if (token === "(") depth++;
    if (token === ")") depth--;
    if (token === "|" && depth === 0) found.push("");
    else found[found.length - 1] += token;
  }
  return found;
}

/** The pattern with a backslash before each bare dot. */
export function escapeDots(source: string): string {
  let escaped = "";
  let done = 0;
  for (const at of bareDots(source)) {
    escaped += `${source.slice(done, at)}\\.`;
    done = at + 1;
  }
  return escaped + source.slice(done);
}

/** Where the dots are that match any one character. Those that a quantifier follows are meant to. */
export function bareDots(source: string): number[] {
  const found: number[] = [];
  for (const { 0: token, index } of source.matchAll(TOKEN)) {
    if (token === "." && !/[*+?{]/.test(source[index + 1] ?? "")) found.push(index);
  }
  return found;
}

/** An escape, a class, or one character. */
const TOKEN = /\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|./gs;

/** The texts that a pattern without anchors and wildcards stands for. */
class TextReader {
  readonly #source: string;
  readonly #dots: "any" | "meant";
  #at = 0;

  constructor(source: string, dots: "any" | "meant") {
    this.#source = source;
    this.#dots = dots;
  }

  read(): readonly string[] | undefined {
    const texts = this.#alternatives();
    return this.#at === this.#source.length ? texts : undefined;
  }

  #alternatives(): readonly string[] | undefined {
    const all: string[] = [];
    do {
      const texts = this.#sequence();
      if (texts === undefined) return undefined;
      all.push(...texts);
    } while (this.#skip("|") && all.length <= MOST_TEXTS);
    return all.length <= MOST_TEXTS ? all : undefined;
  }

  #sequence(): readonly string[] | undefined {
    let texts: readonly string[] = [""];
    while (this.#at < this.#source.length && !/[|)]/.test(this.#source[this.#at] ?? "")) {
      const piece = this.#piece();
      if (piece === undefined) return undefined;
      const pieces = this.#skip("?") ? ["", ...piece] : piece;
      if (/[*+?{]/.test(this.#source[this.#at] ?? "") || texts.length * pieces.length > MOST_TEXTS) return undefined;
      texts = texts.flatMap((text) => pieces.map((next) => text + next));
    }
    return texts;
  }

  #piece(): readonly string[] | undefined {
    if (this.#skip("(")) {
      if (this.#source[this.#at] === "?" && !this.#skip("?:")) return undefined;
      const texts = this.#alternatives();
      return this.#skip(")") ? texts : undefined;
    }
    const character = /\[([a-z0-9._-])\]|\\([.-])|([a-z0-9._-])/iy;
    character.lastIndex = this.#at;
    const [all = "", inClass, escaped, bare] = character.exec(this.#source) ?? [];
    if (all === "" || (bare === "." && this.#dots === "any")) return undefined;
    this.#at += all.length;
    return [(inClass ?? escaped ?? bare ?? "").toLowerCase()];
  }

  #skip(text: string): boolean {
    if (!this.#source.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }
}

/** Whether a pattern matches the texts of its shape and nothing else. */
export function isClosed(shape: Shape | undefined): shape is Shape {
  return shape?.start === "fixed" && shape.end === "fixed";
}

/** Whether a pattern surely matches every name that the other one matches. What is not plain to see may match any name. */
export function covers(shape: Shape | undefined, other: Shape = EVERYTHING): boolean {
  if (shape === undefined) return false;
  const [fixedStart, fixedEnd] = [shape.start === "fixed", shape.end === "fixed"];
  if ((fixedStart && other.start !== "fixed") || (fixedEnd && other.end !== "fixed")) return false;
  const holds = (text: string, part: string): boolean => {
    if (fixedStart) return fixedEnd ? text === part : text.startsWith(part);
    return fixedEnd ? text.endsWith(part) : text.includes(part);
  };
  return other.texts.every((text) => shape.texts.some((part) => holds(text, part)));
}
