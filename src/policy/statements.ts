// Policy text → statements, without judging them: options, stanzas, includes, and what to read after a mistake.

import { isLimitOption, meantStanza, OPTIONS, type ScopeKind, STANZAS } from "./options.js";
import { closest, hint } from "./suggest.js";
import type { Statement, Word } from "./syntax.js";
import { PUNCTUATION, WordReader } from "./words.js";

/** Stanzas within stanzas that are read; ours nest three deep. */
const DEEPEST = 10;
const INCLUDES = new Set(["include", "readonly_include"]);

/** Reads statements until the text ends. Never throws; mistakes come first, each with its place. */
export function readStatements(text: string, missing = 0): Statement[] {
  const reader = new StatementReader(text, missing);
  const statements = reader.read();
  // Now that it is known how many `}` are missing, stanzas can be ended where theirs must be missing.
  if (missing === 0 && reader.unclosed > 0) return readStatements(text, reader.unclosed);
  return [...reader.mistakes, ...statements];
}

/** A stanza that is being read. */
interface Open {
  readonly kind: ScopeKind;
  /** Where its `{` is; undefined if that is missing, which was said. */
  readonly opener: number | undefined;
  /** How far the line of its `{` is indented, and that of its first statement. */
  readonly indent: number;
  inside: number | undefined;
}

/** What begins a statement: `key =`, `keyword {` or `keyword name {`. */
const STATEMENT = /^([^\s#/"'={}[\]()]+)(?:\s*[={]|[^\S\n]*(?:"[^"\n]*"|'[^'\n]*'|[^\s#"'={}[\]()]+)\s*\{)/;
const FARTHEST = 400;
const STANZA = /\w+(?!\w|\s*=)/y;
/** What cannot stand right behind a value. */
const BEHIND_VALUE = /["'[({]|[^\S\n]*=/y;
const BRACE = /\s*\{/y;
const BRACE_NEXT = /[^\S\n]*\{/y;
const BRACE_ON_LINE = /[^\n{}#]*\{/y;
/** More names behind a first one, or a list of them. */
const SEVERAL = /[^\S\n]*[("',\w][^\n{}#=]*\{/y;
const INSTEAD_OF_BRACE = /\s*[=([)\],:;]/y;
const LINE_END = /[^\S\n]*(?:[#\n]|$)/y;

class StatementReader extends WordReader {
  /** How many stanzas have no `}`. */
  unclosed = 0;
  /** How many of them are still to be found. */
  #missing: number;
  /** The stanzas around, the global scope first. */
  readonly #open: Open[] = [{ kind: "global", opener: undefined, indent: 0, inside: 0 }];
  /** Each `{` that was said to be wrong has a `}` somewhere, or was one too many. */
  #strayOpen = 0;

  constructor(text: string, missing: number) {
    super(text);
    this.#missing = missing;
  }

  read(): Statement[] {
    const statements: Statement[] = [];
    this.#statements(statements);
    return statements;
  }

  /** Statements up to the `}` of the innermost stanza, or to the end of the text. */
  #statements(into: Statement[]): void {
    const stanza = this.#innermost;
    const isGlobal = this.#open.length === 1;
    for (;;) {
      // What could not be read may have been, or hidden, the `}`.
      const isSaid = this.slipped || stanza.opener === undefined;
      this.slipped = false;
      this.blank();
      const character = this.text[this.at];
      if (character === undefined || (!isGlobal && this.#endsHere(stanza))) {
        if (!isGlobal) this.#unclosed(isSaid ? undefined : stanza.opener);
        return;
      }
      if (character !== "}") {
        this.#statement(into);
        continue;
      }
      this.at++;
      if (!isGlobal) return;
      if (this.#strayOpen > 0) this.#strayOpen--;
      else this.mistake(this.at - 1, this.at, "`}` without a `{`");
    }
  }

  get #innermost(): Open {
    return this.#open.at(-1) as Open;
  }

  #unclosedAt = -1;

  #unclosed(opener: number | undefined): void {
    if (!this.cut) this.unclosed++;
    if (this.#missing === 0) return;
    this.#missing--;
    // Of several that end at one place only the innermost: the stanzas around it lack their brace for the same one slip.
    if (opener !== undefined && this.#unclosedAt !== this.at) {
      const line = this.text.slice(0, this.at).split("\n").length;
      const next = this.shown(this.at, this.lineEnd(this.at));
      const where = next === "" ? "where the stanza ends" : `before \`${next}\` in line ${line}`;
      this.mistake(opener, opener + 1, "`{` is never closed", `add a \`}\` ${where}`);
    }
    this.#unclosedAt = this.at;
    this.#strayOpen++;
  }

  /** Whether a stanza must have ended before what comes next, as its `}` is one of those that are missing. */
  #endsHere(stanza: Open): boolean {
    if (this.#missing === 0) return false;
    const isFirst = this.at === this.first;
    if (this.text[this.at] === "}") return isFirst && this.indent < stanza.indent;
    stanza.inside ??= isFirst ? this.indent : Number.POSITIVE_INFINITY;
    if (isFirst && this.indent <= stanza.indent && stanza.indent < stanza.inside) return this.atWord();
    // A stanza that is valid further out, and in none that ends on the way there.
    const places = STANZAS.get(this.match(STANZA)?.toLowerCase() ?? "") ?? [];
    const ended = [...this.#open].reverse().findIndex(({ kind }) => places.includes(kind));
    return ended > 0 && ended <= this.#missing;
  }

  #statement(into: Statement[]): void {
    const key = this.word("keyword");
    if (key === undefined) {
      this.#noStatement();
      return;
    }
    const keyword = key.text.toLowerCase();
    this.blank();
    if (this.text[this.at] === "=") {
      this.#option(into, key, keyword);
      return;
    }
    const included = INCLUDES.has(keyword);
    const name = this.atWord() && !(included && this.#startsStatement(key.end)) ? this.word("name") : undefined;
    if (name !== undefined && included) {
      into.push({ is: "include", key, path: name, included: undefined });
      return;
    }
    this.blank();
    if (this.text[this.at] === "{") this.#stanza(into, key, name, this.at++);
    else this.#incomplete(into, key, keyword, name);
  }

  #noStatement(): void {
    // Behind a quote that was said to be wrong, a statement may well begin.
    if (this.slipped) return;
    const character = this.text[this.at];
    const help = this.text.startsWith("//", this.at)
      ? "a comment begins with `#`, or stands between `/*` and `*/`"
      : undefined;
    this.mistake(this.at, this.at + 1, `expected an option or a stanza, found \`${character}\``, help);
    if (character === "{") {
      this.at++;
      this.#strayOpen++;
    } else this.#toNextLine();
  }

  /** A keyword, perhaps a name, and then neither `=` nor `{`. A word on a later line is the next statement, and read again. */
  #incomplete(into: Statement[], key: Word, keyword: string, word: Word | undefined): void {
    const isAlone = this.match(LINE_END, key.end) !== undefined;
    if (isAlone && this.slipped) {
      this.mistakes.pop();
      this.slipped = false;
    }
    const name = isAlone ? undefined : word;
    const { start } = key;
    const end = name?.end ?? key.end;
    this.at = end;
    // As other formats have it: `option: 20`.
    const [option = "", colon] = `${keyword}${name?.text.startsWith(":") ? ":" : ""}`.split(/(:)/);
    if (isLimitOption(option) || (option === "binding_group" && this.#innermost.kind === "binding")) {
      const behind = this.text.slice(start + option.length, this.lineEnd(end));
      const value = colon === undefined ? name?.text : /-?\d{1,9}/.exec(behind)?.[0];
      const what = colon === undefined ? "`=` is missing" : "`:` instead of `=`";
      this.#refuse(start, end, `${what} after \`${option}\``, `write \`${option} = ${value ?? "20"}\``);
    } else if (INCLUDES.has(keyword)) {
      this.#refuse(start, end, `\`${keyword}\` without a path`, `write \`${keyword} "file"\``);
    } else if (STANZAS.has(keyword) && name !== undefined && this.match(BRACE_ON_LINE) === undefined) {
      const help = `write \`${keyword} "${name.text}" { … }\``;
      this.mistake(start, end, `\`{\` is missing after the name of the ${keyword}`, help);
      this.at += this.match(INSTEAD_OF_BRACE)?.length ?? 0;
      this.#strayOpen++;
      // Most likely only the brace was forgotten: what follows is its body, and its `}` is there.
      this.#stanza(into, key, name, undefined);
    } else if (STANZAS.has(keyword) && this.match(SEVERAL) !== undefined) {
      this.#strayOpen++;
      const pattern = keyword.startsWith("binding") ? "" : `, or a pattern: \`${keyword} "/^(one|other)$/" { … }\``;
      const help = `write a stanza for each name${pattern}`;
      this.#refuse(start, end, `several names of one ${keyword}`, help);
    } else {
      this.#strayOpen++;
      // Behind an option on the same line it belongs to the value: one mistake, whatever the value is without it.
      const before = into.at(-1);
      if (before?.is === "option" && this.lineEnd(before.valueEnd) === this.lineEnd(start)) into.pop();
      const meant = closest(keyword, [...INCLUDES, ...OPTIONS], hint);
      const help =
        meant === undefined ? 'write `option = value` or `stanza "name" { … }`' : `did you mean \`${meant}\`?`;
      const last = name ?? key;
      this.#refuse(start, end, `expected \`=\` or \`{\` after \`${this.shown(last.start, end)}\``, help);
    }
  }

  #option(into: Statement[], key: Word, keyword: string): void {
    const end = ++this.at;
    const written = this.shown(key.start, end);
    this.blank();
    const start = this.at;
    const opening = this.text[start] ?? "}";
    if (opening === "}" || this.#startsStatement(end)) {
      this.at = end;
      this.mistake(key.start, end, `no value after \`${written}\``);
    } else if (INCLUDES.has(keyword)) {
      const path = this.atWord() ? this.word("value") : undefined;
      const help = `write \`${keyword} "${path?.text ?? "file"}"\``;
      this.#refuse(key.start, end, `\`=\` after \`${keyword}\``, help);
    } else if (opening === "(" || opening === "[") {
      this.#list();
      if (!this.slipped) into.push({ is: "option", key, value: undefined, valueStart: start, valueEnd: this.at });
    } else if (PUNCTUATION.has(opening)) {
      this.#refuse(key.start, start + 1, `expected a value after \`${written}\`, found \`${opening}\``);
    } else this.#value(into, key, keyword);
  }

  #value(into: Statement[], key: Word, keyword: string): void {
    const { at: start } = this;
    const isStanza = STANZAS.has(keyword);
    const value = this.word(isStanza || isLimitOption(keyword) ? "value" : "foreign value");
    const brace = this.match(BRACE_NEXT);
    const behind = this.match(BEHIND_VALUE);
    if (isStanza && value !== undefined && brace !== undefined) {
      const help = `write \`${keyword} "${value.text}" { … }\``;
      this.mistake(key.start, value.end, "`=` between the keyword and the name of a stanza", help);
      this.at += brace.length;
      this.#stanza(into, key, value, this.at - 1);
    } else if (value === undefined || behind !== undefined || this.slipped) {
      this.#refuse(start, this.at + (behind?.length ?? 0), `\`${behind?.trim()}\` right behind a value`);
    } else into.push({ is: "option", key, value, valueStart: start, valueEnd: value.end });
  }

  /** The statement that begins here on a later line than `after`, up to its `=` or `{`, and its keyword. */
  #startsStatement(after: number): RegExpExecArray | null {
    return this.text.slice(after, this.at).includes("\n")
      ? STATEMENT.exec(this.text.slice(this.at, this.at + FARTHEST))
      : null;
  }

  /** Reads on behind the `{`. */
  #stanza(into: Statement[], key: Word, name: Word | undefined, opener: number | undefined): void {
    const kind = meantStanza(key.text.toLowerCase());
    const body: Statement[] = [];
    if (kind !== undefined && this.#open.length <= DEEPEST) {
      this.#open.push({ kind, opener, indent: this.indent, inside: undefined });
      this.#statements(body);
      this.#open.pop();
    } else if (!this.#skipBody()) this.#unclosed(opener);
    into.push({ is: "stanza", key, name, body });
  }

  /** The inside of another module's stanza: only braces, quotes and comments mean anything. Whether it ends. */
  #skipBody(): boolean {
    for (let open = 1; open > 0; ) {
      this.blank();
      const character = this.text[this.at];
      if (character === undefined) return false;
      if (character === "{") open++;
      if (character === "}") open--;
      if (PUNCTUATION.has(character)) this.at++;
      else this.word("foreign value");
    }
    return true;
  }

  /** A list `( … )` or a dictionary `[ … ]`, nested or not. */
  #list(): void {
    const opener = this.at;
    const closers: string[] = [];
    do {
      const before = this.at;
      this.blank();
      const character = this.text[this.at];
      const [statement = "", keyword = ""] = this.#startsStatement(before) ?? [];
      // `a = 1` may be an entry of a dictionary.
      const isEntry = closers[0] === "]" && statement.endsWith("=") && !isLimitOption(keyword.toLowerCase());
      const ends = statement !== "" && !isEntry;
      if (ends || character === undefined || character === "{" || character === "}") {
        this.mistake(opener, opener + 1, `\`${this.text[opener]}\` is never closed`);
        if (character === "{") this.#toNextLine();
        return;
      }
      if (character === "(") closers.push(")");
      if (character === "[") closers.push("]");
      if (character === ")" || character === "]") {
        const closer = closers.pop();
        if (closer !== character) this.mistake(this.at, this.at + 1, `expected \`${closer}\`, found \`${character}\``);
      }
      if (PUNCTUATION.has(character)) this.at++;
      else this.word("foreign value");
    } while (closers.length > 0);
  }

  #refuse(start: number, end: number, message: string, help?: string): void {
    this.mistake(start, end, message, help);
    this.#toNextLine();
  }

  /** After a mistake, reading goes on at the next line, or at a `}` before that; behind the body that belongs to it. */
  #toNextLine(): void {
    // INVARIANT: reading goes forward, also where the mistake is a bracket that nothing above skips.
    this.restOfLine();
    const brace = this.match(BRACE);
    if (brace === undefined) return;
    this.at += brace.length;
    if (!this.#skipBody()) this.cut = true;
  }
}
