// Policy text → words: bare ones, quoted ones and patterns, and the white space and the comments between them.

import type { Mistake, Word } from "./syntax.js";

/** What stands between words and ends a bare one. */
export const PUNCTUATION: ReadonlySet<string> = new Set(["=", "{", "}", "[", "]", "(", ")"]);

const BLANK = /\s*/y;
const BARE = /[^\s#/"'={}[\]()]+/y;
/** As a value `10.0.0.0/8` is one word. */
const BARE_VALUE = /[^\s#"'={}[\]()]+/y;
// With the flags that elsewhere stand behind it, for the builder to complain about them.
const PATTERN = /\/(?:[^\n\\/]|\\[^\n])*\/\w*/y;
/** A letter right behind a quote: that quote opens a string, and the one that closes the string before it is missing. */
const GLUED = /(?:[^\s"'#={}[\](),;/]|\/(?!\*))/y;
const UNCLOSED = /.[^\s"'#{}]*/y;
const REST_OF_LINE = /(?:[^\n{}#"']|"[^"\n]*"|'[^'\n]*'|["'])*/y;

const MOST_SHOWN = 60;

/** Reads words off a text, and collects what is wrong with them. */
export class WordReader {
  readonly text: string;
  readonly mistakes: Mistake[] = [];
  protected at = 0;
  /** The word that comes first on its line, and how far that line is indented. */
  protected first = 0;
  protected indent = 0;
  /** Something is wrong with this statement. What else seems to be wrong with it most likely is the same slip. */
  protected slipped = false;
  /** The text ended inside of what was begun by mistake: stanzas that are open then are so for the same slip. */
  protected cut = false;
  #line = { from: 0, end: -1 };
  /** By quotes: where the string closes that was read last. */
  readonly #closing = new Map<string, number>();

  constructor(text: string) {
    this.text = text;
  }

  protected mistake(start: number, end: number, message: string, help?: string): void {
    if (!this.slipped) this.mistakes.push({ is: "mistake", start, end, message, help });
    this.slipped = true;
  }

  /** A piece of the text as it is shown in a message. */
  protected shown(start: number, end: number): string {
    return end - start > MOST_SHOWN ? `${this.text.slice(start, start + MOST_SHOWN)}…` : this.text.slice(start, end);
  }

  /** What this matches here, or undefined. */
  protected match(pattern: RegExp, at: number = this.at): string | undefined {
    pattern.lastIndex = at;
    return pattern.exec(this.text)?.[0];
  }

  /** Skips white space and comments. */
  protected blank(): void {
    for (;;) {
      const blank = this.match(BLANK) ?? "";
      this.at += blank.length;
      const newline = blank.lastIndexOf("\n");
      if (newline >= 0) {
        this.first = this.at;
        this.indent = blank.length - newline - 1;
      }
      if (this.text[this.at] === "#") this.at = this.lineEnd(this.at);
      else if (this.text.startsWith("/*", this.at)) this.#comment();
      else return;
    }
  }

  #comment(): void {
    const end = this.text.indexOf("*/", this.at + 2);
    if (end === -1) {
      this.mistake(this.at, this.at + 2, "`/*` is never closed");
      this.cut = true;
    }
    this.at = end === -1 ? this.text.length : end + 2;
  }

  protected lineEnd(at: number): number {
    // Looked up once, or a long line would be searched again for each of its words.
    if (at < this.#line.from || at > this.#line.end) {
      const end = this.text.indexOf("\n", at);
      this.#line = { from: at, end: end === -1 ? this.text.length : end };
    }
    return this.#line.end;
  }

  /** To the end of the line, or to a brace or a comment before it. */
  protected restOfLine(): void {
    this.at += this.match(REST_OF_LINE)?.length ?? 0;
  }

  protected atWord(): boolean {
    const character = this.text[this.at];
    return character !== undefined && !PUNCTUATION.has(character);
  }

  /** A bare or quoted word; undefined where none stands. Only values of options that are not ours have several lines. */
  protected word(as: "keyword" | "name" | "value" | "foreign value"): Word | undefined {
    const start = this.at;
    const character = this.text[start] ?? "";
    if (character === '"' || character === "'") return this.#string(character, as);
    if (character === "/" && as === "name") return this.#pattern();
    const text = this.match(as === "keyword" || as === "name" ? BARE : BARE_VALUE);
    if (text === undefined) return undefined;
    this.at += text.length;
    return { text, start, end: this.at, quoted: 0 };
  }

  #string(quotes: string, as: Parameters<WordReader["word"]>[0]): Word | undefined {
    const start = this.at;
    const end = this.#closingQuote(start, quotes);
    const onLine = end <= this.lineEnd(start);
    const glued = this.match(GLUED, end + 1);
    if (glued === undefined && (onLine || (as === "foreign value" && end < this.text.length))) {
      this.at = end + 1;
      const inside = this.text.slice(start + 1, end);
      const text = quotes === "'" ? inside : inside.replace(/\\(["\\])/g, "$1");
      return { text, start, end: this.at, quoted: 1 };
    }
    if (onLine) {
      const help = "a quote is missing, or there is one too many";
      this.mistake(start, end + 2, `\`${glued}\` right behind a closing quote`, help);
    } else {
      const unclosed = this.match(UNCLOSED) ?? "";
      this.mistake(start, start + unclosed.length, `\`${quotes}\` is not closed on its line`);
    }
    // Reading goes on well if this quote was not there.
    this.at = start + 1;
    return as === "keyword" ? undefined : this.word(as);
  }

  /** Where the string closes that opens at `start`, or behind the end of the text. */
  #closingQuote(start: number, quotes: string): number {
    // A quote inside of the last one was passed as an escape, so what opens there meets the same escapes and the same end.
    const known = this.#closing.get(quotes);
    if (known !== undefined && start < known) return known;
    let end = start + 1;
    while (end < this.text.length && this.text[end] !== quotes) {
      const next = this.text[end + 1];
      end += quotes === '"' && this.text[end] === "\\" && (next === '"' || next === "\\") ? 2 : 1;
    }
    if (end >= this.text.length) end = Number.POSITIVE_INFINITY;
    this.#closing.set(quotes, end);
    return end;
  }

  /** A bare pattern. Without its closing slash it is returned as it is, for the builder to complain about. */
  #pattern(): Word {
    const start = this.at;
    let text = this.match(PATTERN);
    if (text === undefined) {
      const line = this.text.slice(start, this.lineEnd(start));
      const brace = line.lastIndexOf("{");
      text = line.slice(0, brace > 0 ? brace : line.length).trimEnd();
    }
    this.at += text.length;
    return { text, start, end: this.at, quoted: 0 };
  }
}
