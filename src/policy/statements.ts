// Policy text → statements, without judging them: words, quotes, comments, braces, and what to read after a mistake.

import { isLimitOption, meantStanza, STANZAS } from "./options.js";
import type { Statement, Word } from "./syntax.js";

/** Stanzas within stanzas; ours nest three deep. */
const DEEPEST = 100;
const INCLUDES = new Set(["include", "readonly_include"]);

/** Reads statements until the text ends. Never throws; what cannot be read becomes a mistake in the place where it is. */
export function readStatements(text: string): Statement[] {
  return new StatementReader(text).read();
}

const BLANK = /\s*/y;
const PUNCTUATION = new Set(["=", "{", "}", "[", "]", "(", ")"]);

class StatementReader {
  readonly #text: string;
  #at = 0;
  /** Where a character was last looked for and found, so that a long line is not searched again for each of its words. */
  readonly #searched = new Map<string, { readonly from: number; readonly found: number }>();
  /** By quotes: from where on they do not close any more. */
  readonly #openFrom = new Map<string, number>();

  constructor(text: string) {
    this.#text = text;
    if (text.startsWith("\ufeff")) this.#at = 1;
  }

  read(): Statement[] {
    const statements: Statement[] = [];
    this.#statements(statements, undefined, 0);
    return statements;
  }

  /** Statements up to the `}` that closes `opener`, or to the end of the text. */
  #statements(into: Statement[], opener: number | undefined, depth: number): void {
    for (;;) {
      this.#blank(into);
      const character = this.#text[this.#at];
      if (character === undefined) {
        // Only the innermost: the stanzas around it lack their brace for the same one slip.
        if (opener !== undefined) this.#unclosed(into, opener);
        return;
      }
      if (character === "}") {
        this.#at++;
        if (opener !== undefined) return;
        if (this.#strayOpen > 0) this.#strayOpen--;
        else into.push(mistake(this.#at - 1, this.#at, "`}` without a `{`"));
      } else {
        this.#statement(into, depth);
      }
    }
  }

  #unclosedSaid = false;
  /** Each `{` without a keyword, which was said, has a `}` somewhere or was one too many. */
  #strayOpen = 0;

  #unclosed(into: Statement[], opener: number): void {
    if (!this.#unclosedSaid)
      into.unshift(mistake(opener, opener + 1, "`{` is never closed", "add a `}` where the stanza ends"));
    this.#unclosedSaid = true;
  }

  #statement(into: Statement[], depth: number): void {
    const key = this.#word(into, "keyword");
    if (key === undefined) return;
    const keyword = key.text.toLowerCase();
    this.#blank(into);
    if (this.#text[this.#at] === "=") {
      this.#at++;
      this.#option(into, key, depth);
      return;
    }
    if (this.#text[this.#at] === "{") {
      this.#body(into, key, undefined, depth);
      return;
    }
    const included = INCLUDES.has(keyword);
    const name = !this.#atWord() || (included && this.#startsStatement(key.end)) ? undefined : this.#word(into, "name");
    if (name !== undefined && included) {
      into.push({ is: "include", key, path: name, included: undefined });
      return;
    }
    this.#blank(into);
    if (this.#text[this.#at] === "{" && name !== undefined) {
      this.#body(into, key, name, depth);
      return;
    }
    this.#incomplete(into, key, keyword, name, depth);
  }

  /** A keyword, perhaps a name, and then neither `=` nor `{`. */
  #incomplete(into: Statement[], key: Word, keyword: string, word: Word | undefined, depth: number): void {
    // A word on a later line is the next statement.
    const name = word !== undefined && this.#isLineEnd(key.end) ? undefined : word;
    const end = name?.end ?? key.end;
    this.#at = end;
    if (STANZAS.has(keyword) && name !== undefined && this.#next("{", end) >= this.#lineEnd(end)) {
      into.push(
        mistake(
          key.start,
          end,
          `\`{\` is missing after the name of the ${keyword}`,
          `write \`${keyword} "${name.text}" { … }\``,
        ),
      );
      // Most likely only the brace was forgotten: what follows is its body, and its `}` is there.
      this.#stanza(into, key, name, key.start, depth);
      return;
    }
    if (INCLUDES.has(keyword))
      into.push(mistake(key.start, end, `\`${keyword}\` without a path`, `write \`${keyword} "file"\``));
    else if (isLimitOption(keyword)) {
      into.push(
        mistake(
          key.start,
          end,
          `\`=\` is missing after \`${keyword}\``,
          `write \`${keyword} = ${name?.text ?? "20"}\``,
        ),
      );
    } else {
      into.push(
        mistake(
          key.start,
          end,
          `expected \`=\` or \`{\` after \`${excerptOf(name ?? key)}\``,
          'write `option = value` or `stanza "name" { … }`',
        ),
      );
    }
    this.#toNextLine();
  }

  #option(into: Statement[], key: Word, depth: number): void {
    const equals = this.#at;
    this.#blank(into);
    const start = this.#at;
    const opening = this.#text[start];
    if (opening === "(" || opening === "[") {
      if (this.#skipList(into, start))
        into.push({ is: "option", key, value: undefined, valueStart: start, valueEnd: this.#at });
      return;
    }
    if (opening === undefined || opening === "}" || this.#startsStatement(equals)) {
      this.#at = equals;
      into.push(mistake(key.start, equals, `no value after \`${excerptOf(key)} =\``));
      return;
    }
    if (PUNCTUATION.has(opening)) {
      into.push(mistake(key.start, start + 1, `expected a value after \`${excerptOf(key)} =\`, found \`${opening}\``));
      this.#toNextLine();
      return;
    }
    const value = this.#word(into, "value") as Word;
    if (STANZAS.has(key.text.toLowerCase()) && /^\s*\{/.test(this.#text.slice(this.#at, this.#lineEnd(this.#at)))) {
      into.push(
        mistake(
          key.start,
          value.end,
          "`=` between the keyword and the name of a stanza",
          `write \`${key.text} "${value.text}" { … }\``,
        ),
      );
      this.#blank(into);
      this.#body(into, key, value, depth);
      return;
    }
    into.push({ is: "option", key, value, valueStart: value.start, valueEnd: value.end });
    if (/^["'=[({]/.test(this.#text.slice(this.#at, this.#at + 1))) {
      into.push(mistake(value.start, this.#at + 1, `\`${this.#text[this.#at]}\` right behind a value`));
      this.#toNextLine();
    }
  }

  /** Whether the next word stands on a later line than `after` and begins a statement of its own. */
  #startsStatement(after: number): boolean {
    if (!this.#text.slice(after, this.#at).includes("\n")) return false;
    return /^[^\s#/"'={}[\]()]+\s*(?:=|\{|(?:"[^"\n]*"|[^\s#"'={}[\]()]+)\s*\{)/.test(
      this.#text.slice(this.#at, this.#at + 400),
    );
  }

  #lineEnd(at: number): number {
    return this.#next("\n", at);
  }

  /** The next such character from `at` on, or the end of the text. */
  #next(character: string, at: number): number {
    const known = this.#searched.get(character);
    if (known !== undefined && known.from <= at && at <= known.found) return known.found;
    const found = endOr(this.#text.indexOf(character, at), this.#text.length);
    this.#searched.set(character, { from: at, found });
    return found;
  }

  /** Whether nothing more stands on the line. */
  #isLineEnd(at: number): boolean {
    return /^\s*(?:#|$)/.test(this.#text.slice(at, this.#lineEnd(at)));
  }

  #body(into: Statement[], key: Word, name: Word | undefined, depth: number): void {
    const opener = this.#at++;
    this.#stanza(into, key, name, opener, depth);
  }

  /** Reads the inside of a stanza; `opener` is what is said to be open if it never ends. */
  #stanza(into: Statement[], key: Word, name: Word | undefined, opener: number, depth: number): void {
    const keyword = key.text.toLowerCase();
    const body: Statement[] = [];
    if (depth >= DEEPEST) {
      into.push(mistake(opener, opener + 1, `stanzas nest more than ${DEEPEST} deep`));
      this.#at = this.#text.length;
    } else if (meantStanza(keyword) !== undefined) {
      this.#statements(body, opener, depth + 1);
    } else {
      this.#skipBody(body, opener);
    }
    into.push({ is: "stanza", key, name, body });
  }

  /** The inside of another module's stanza: only braces, quotes and comments mean anything. */
  #skipBody(into: Statement[], opener: number): void {
    let open = 1;
    while (open > 0) {
      this.#blank(into);
      const character = this.#text[this.#at];
      if (character === undefined) {
        this.#unclosed(into, opener);
        return;
      }
      if (character === "{") open++;
      if (character === "}") open--;
      if (PUNCTUATION.has(character)) this.#at++;
      else this.#word(into, "value");
    }
  }

  /** A list `( … )` or a dictionary `[ … ]`, nested or not. */
  #skipList(into: Statement[], opener: number): boolean {
    const closers: string[] = [];
    do {
      this.#blank(into);
      const character = this.#text[this.#at];
      if (character === undefined || character === "{" || character === "}") {
        into.push(mistake(opener, opener + 1, `\`${this.#text[opener]}\` is never closed`));
        return false;
      }
      if (character === "(") closers.push(")");
      else if (character === "[") closers.push("]");
      else if (character === ")" || character === "]") {
        if (closers.pop() !== character) {
          into.push(mistake(this.#at, this.#at + 1, `\`${character}\` does not close \`${this.#text[opener]}\``));
          this.#toNextLine();
          return false;
        }
      }
      if (PUNCTUATION.has(character)) this.#at++;
      else this.#word(into, "value");
    } while (closers.length > 0);
    return true;
  }

  #atWord(): boolean {
    const character = this.#text[this.#at];
    return character !== undefined && !PUNCTUATION.has(character);
  }

  /**
   * A bare or quoted word. Where a name may stand, a `/` begins a bare pattern; where a value may stand, it is a letter
   * like any other (`10.0.0.0/8`). Undefined where no word stands, which is a mistake.
   */
  #word(into: Statement[], as: "keyword" | "name" | "value"): Word | undefined {
    const start = this.#at;
    const character = this.#text[start] ?? "";
    if (character === '"' || character === "'") return this.#string(into, character, as === "value");
    if (character === "/" && as === "name") return this.#barePattern();
    const bare = as === "value" ? /[^\s#"'={}[\]()]+/y : /[^\s#/"'={}[\]()]+/y;
    bare.lastIndex = start;
    const [text] = bare.exec(this.#text) ?? [];
    if (text === undefined) {
      into.push(mistake(start, start + 1, `expected an option or a stanza, found \`${character}\``));
      if (character === "{") {
        this.#at++;
        this.#strayOpen++;
      } else this.#toNextLine();
      return undefined;
    }
    this.#at += text.length;
    return { text, start, end: this.#at, quoted: 0 };
  }

  #string(into: Statement[], quotes: string, multiline: boolean): Word {
    const start = this.#at;
    const lineEnd = this.#lineEnd(start);
    const end = this.#closingQuote(start, quotes, multiline ? this.#text.length : lineEnd);
    if (end === -1) {
      const word = this.#restOfLine(lineEnd, 1);
      into.push(mistake(start, word.end, `\`${quotes}\` is not closed on its line`));
      return word;
    }
    this.#at = end + 1;
    const inside = this.#text.slice(start + 1, end);
    const text = quotes === "'" ? inside : inside.replace(/\\(["\\])/g, "$1");
    return { text, start, end: this.#at, quoted: 1 };
  }

  /** A word whose end was forgotten, up to the `{` behind it or to the end of the line, so that reading goes on well. */
  #restOfLine(lineEnd: number, quoted: 0 | 1): Word {
    const start = this.#at;
    const line = this.#text.slice(start, lineEnd);
    const brace = line.lastIndexOf("{");
    const rest = line.slice(0, brace > 0 ? brace : line.length).trimEnd();
    this.#at = start + rest.length;
    return { text: rest.slice(quoted), start, end: this.#at, quoted };
  }

  /** Where the string that opens at `start` closes before `limit`, or -1. */
  #closingQuote(start: number, quotes: string, limit: number): number {
    if (start >= (this.#openFrom.get(quotes) ?? Number.POSITIVE_INFINITY)) return -1;
    let end = start + 1;
    while (end < limit && this.#text[end] !== quotes) {
      const next = this.#text[end + 1];
      end += quotes === '"' && this.#text[end] === "\\" && (next === '"' || next === "\\") ? 2 : 1;
    }
    if (end < limit) return end;
    // A quote behind this one was passed as an escape, so reading from it meets the same escapes and no end either.
    if (limit === this.#text.length) this.#openFrom.set(quotes, start);
    return -1;
  }

  /** Without its closing slash the word is returned as it is, for the builder to complain about. */
  #barePattern(): Word {
    const start = this.#at;
    // With the flags that elsewhere stand behind it, for the builder to complain about them too.
    const pattern = /\/(?:[^\n\\/]|\\[^\n])*\/\w*/y;
    pattern.lastIndex = start;
    const [text] = pattern.exec(this.#text) ?? [];
    if (text === undefined) return this.#restOfLine(this.#lineEnd(start), 0);
    this.#at += text.length;
    return { text, start, end: this.#at, quoted: 0 };
  }

  /** Skips white space and comments. */
  #blank(into: Statement[]): void {
    for (;;) {
      BLANK.lastIndex = this.#at;
      BLANK.test(this.#text);
      this.#at = BLANK.lastIndex;
      const character = this.#text[this.#at];
      if (character === "#") this.#at = this.#lineEnd(this.#at);
      else if (character === "/" && this.#text[this.#at + 1] === "*") this.#comment(into);
      else return;
    }
  }

  #comment(into: Statement[]): void {
    const start = this.#at;
    const end = this.#text.indexOf("*/", start + 2);
    if (end === -1) {
      into.push(mistake(start, start + 2, "`/*` is never closed"));
      // The braces that are missing now are inside it.
      this.#unclosedSaid = true;
    }
    this.#at = end === -1 ? this.#text.length : end + 2;
  }

  /** After a mistake, reading goes on at the next line, or at a brace before that. */
  #toNextLine(): void {
    const rest = /[^\n{}]*/y;
    rest.lastIndex = this.#at;
    rest.exec(this.#text);
    // INVARIANT: reading goes forward, also where the mistake is a bracket that nothing above skips.
    this.#at = rest.lastIndex;
    if (this.#text[this.#at] === "{") {
      this.#at++;
      this.#skipBody([], this.#at - 1);
    }
  }
}

const endOr = (found: number, end: number): number => (found === -1 ? end : found);

const excerptOf = (word: Word): string => (word.text.length > 40 ? `${word.text.slice(0, 40)}…` : word.text);

const mistake = (start: number, end: number, message: string, help?: string): Statement => ({
  is: "mistake",
  start,
  end,
  message,
  help,
});
