// Policy text → Policy. First into statements, without judging them; then every statement is checked by the builder.

import type { ParseOptions, Policy } from "../types.js";
import { PolicyBuilder } from "./build.js";
import { isLimitOption, STANZAS } from "./options.js";
import type { Scope } from "./policy.js";
import { Source, type Spot } from "./source.js";
import { closest, nearMiss } from "./suggest.js";

/** A piece of the text and what it says. */
interface Word {
  readonly text: string;
  readonly start: number;
  readonly end: number;
  /** How many characters of quoting come before the text. */
  readonly quoted: 0 | 1;
}

/** A file that an `include` brings in, read already; or why it could not be. */
export type Included = { readonly file: PolicyFile } | { readonly problem: string; readonly help?: string };

/** One statement of a policy text. */
export type Statement =
  | { readonly is: "option"; readonly key: Word; readonly value: Word | undefined; readonly valueStart: number; readonly valueEnd: number }
  | { readonly is: "stanza"; readonly key: Word; readonly name: Word | undefined; readonly body: readonly Statement[] }
  | { readonly is: "include"; readonly key: Word; readonly path: Word; included: readonly Included[] | undefined }
  | { readonly is: "mistake"; readonly start: number; readonly end: number; readonly message: string; readonly help: string | undefined };

/** One text and its statements. */
export interface PolicyFile {
  readonly source: Source;
  readonly statements: readonly Statement[];
}

/** Stanzas within stanzas; ours nest three deep. */
const DEEPEST = 100;
const INCLUDES = new Set(["include", "readonly_include"]);

/**
 * Reads a policy in Momentum's stanza syntax. Pure: an `include` is a mistake here, `loadPolicy` reads those.
 * Follows the manual's pages "Configuration Files" and "Configuration Scopes and Fallback".
 *
 * @param text the policy
 * @param options `source`, the name shown in messages (default "policy"); `unknown`, what to do with options and
 * stanzas that are not ours (default "error")
 * @returns the policy; its `warnings` hold what was accepted but deserves a look
 * @throws {PolicyError} with every mistake, at most 50, in source order
 * @throws {TypeError} `text` is not a string
 * @example
 * const policy = parsePolicy(`
 *   max_outbound_connections = 20
 *   domain "/^(wanadoo|orange)\\.fr$/" { scope_max_outbound_connections = 3 }
 * `);
 */
export function parsePolicy(text: string, options: ParseOptions = {}): Policy {
  if (typeof text !== "string") throw new TypeError("A policy text must be a string; definePolicy takes an object");
  const source = new Source(options.source ?? "policy", text);
  return buildPolicy({ source, statements: readStatements(text) }, options);
}

/** Checks what was read and makes the policy of it. @throws {PolicyError} */
export function buildPolicy(file: PolicyFile, options: Pick<ParseOptions, "unknown">): Policy {
  const { unknown = "error" } = options;
  if (unknown !== "error" && unknown !== "ignore") throw new TypeError(`Option unknown must be "error" or "ignore"`);
  const builder = new PolicyBuilder(unknown === "ignore");
  addStatements(builder, builder.root, file);
  return builder.finish(file.source.name);
}

function addStatements(builder: PolicyBuilder, scope: Scope, { source, statements }: PolicyFile): void {
  for (const statement of statements) {
    if (statement.is === "mistake") {
      builder.issue(source.spot(statement.start, statement.end), "syntax", statement.message, statement.help);
    } else if (statement.is === "option") {
      const valueSpot = source.spot(statement.valueStart, statement.valueEnd);
      builder.set(scope, statement.key.text, statement.value?.text, spotOf(source, statement.key), valueSpot);
    } else if (statement.is === "stanza") {
      const { key, name, body } = statement;
      const inner = builder.enter(scope, key.text, name?.text, spotOf(source, key), nameSpot(source, name ?? key));
      if (inner !== undefined) addStatements(builder, inner, { source, statements: body });
      else addMistakes(builder, source, body);
    } else {
      addIncluded(builder, scope, source, statement);
    }
  }
}

/** Inside a stanza that is not ours: only what is wrong whatever the stanza is. */
function addMistakes(builder: PolicyBuilder, source: Source, statements: readonly Statement[]): void {
  for (const statement of statements) {
    if (statement.is === "mistake") addStatements(builder, builder.root, { source, statements: [statement] });
    else if (statement.is === "stanza") addMistakes(builder, source, statement.body);
  }
}

function addIncluded(builder: PolicyBuilder, scope: Scope, source: Source, statement: Statement & { is: "include" }): void {
  const spot = spotOf(source, statement.path);
  if (statement.included === undefined) {
    builder.issue(spot, "include", "`include` in a policy that is not read from a file", "read the file with `loadPolicy`");
    return;
  }
  for (const included of statement.included) {
    if ("file" in included) addStatements(builder, scope, included.file);
    else builder.issue(spot, "include", included.problem, included.help);
  }
}

const spotOf = (source: Source, word: Word): Spot => source.spot(word.start, word.end);

function nameSpot(source: Source, word: Word): Spot {
  const inside = word.start + word.quoted;
  const literal = source.text.startsWith(word.text, inside);
  return source.spot(word.start, word.end, literal ? inside : undefined);
}

/** Reads statements until the text ends. Never throws; what cannot be read becomes a mistake in the place where it is. */
export function readStatements(text: string): Statement[] {
  return new StatementReader(text).read();
}

const BLANK = /\s*/y;
const PUNCTUATION = new Set(["=", "{", "}", "[", "]", "(", ")"]);

class StatementReader {
  readonly #text: string;
  #at = 0;

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
        into.push(mistake(this.#at - 1, this.#at, "`}` without a `{`"));
      } else {
        this.#statement(into, depth);
      }
    }
  }

  #unclosedSaid = false;

  #unclosed(into: Statement[], opener: number): void {
    if (!this.#unclosedSaid) into.unshift(mistake(opener, opener + 1, "`{` is never closed", "add a `}` where the stanza ends"));
    this.#unclosedSaid = true;
  }

  #statement(into: Statement[], depth: number): void {
    const key = this.#word(into, false);
    if (key === undefined) return;
    const keyword = key.text.toLowerCase();
    this.#blank(into);
    if (this.#text[this.#at] === "=") {
      this.#at++;
      this.#option(into, key);
      return;
    }
    if (this.#text[this.#at] === "{") {
      this.#body(into, key, undefined, depth);
      return;
    }
    const name = this.#atWord() ? this.#word(into, true) : undefined;
    if (name !== undefined && INCLUDES.has(keyword)) {
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
  #incomplete(into: Statement[], key: Word, keyword: string, name: Word | undefined, depth: number): void {
    if (INCLUDES.has(keyword)) into.push(mistake(key.start, key.end, `\`${keyword}\` without a path`, `write \`${keyword} "file"\``));
    else if (isLimitOption(keyword)) {
      into.push(mistake(key.start, name?.end ?? key.end, `\`=\` is missing after \`${keyword}\``, `write \`${keyword} = ${name?.text ?? "20"}\``));
    } else if (STANZAS.has(keyword) && name !== undefined && this.#text.slice(name.end, this.#at).includes("\n")) {
      into.push(mistake(key.start, name.end, `\`{\` is missing after the name of the ${keyword}`, `write \`${keyword} "${name.text}" { … }\``));
      // Most likely only the brace was forgotten: what follows is its body, and its `}` is there.
      const body: Statement[] = [];
      this.#statements(body, key.start, depth + 1);
      into.push({ is: "stanza", key, name, body });
      return;
    } else {
      into.push(mistake(key.start, name?.end ?? key.end, `expected \`=\` or \`{\` after \`${excerptOf(key)}\``, 'write `option = value` or `stanza "name" { … }`'));
    }
    this.#toNextLine();
  }

  #option(into: Statement[], key: Word): void {
    const equals = this.#at;
    this.#blank(into);
    const start = this.#at;
    const opening = this.#text[start];
    if (opening === "(" || opening === "[") {
      if (this.#skipList(into, start)) into.push({ is: "option", key, value: undefined, valueStart: start, valueEnd: this.#at });
      return;
    }
    if (!this.#atWord(true) || this.#startsStatement(equals, start)) {
      this.#at = equals;
      into.push(mistake(key.start, equals, `no value after \`${excerptOf(key)} =\``));
      return;
    }
    const value = this.#word(into, false, true);
    if (value !== undefined) into.push({ is: "option", key, value, valueStart: value.start, valueEnd: value.end });
  }

  /** Whether what stands on a later line than the `=` is not its value but the next statement. */
  #startsStatement(equals: number, start: number): boolean {
    if (!this.#text.slice(equals, start).includes("\n")) return false;
    return /^[^\s#/"'={}[\]()]+\s*(?:=|\{|(?:"[^"\n]*"|[^\s#"'={}[\]()]+)\s*\{)/.test(this.#text.slice(start, start + 400));
  }

  #body(into: Statement[], key: Word, name: Word | undefined, depth: number): void {
    const opener = this.#at++;
    const keyword = key.text.toLowerCase();
    const body: Statement[] = [];
    if (depth >= DEEPEST) {
      into.push(mistake(opener, opener + 1, `stanzas nest more than ${DEEPEST} deep`));
      this.#at = this.#text.length;
    } else if (STANZAS.has(keyword) || closest(keyword, STANZAS.keys(), nearMiss) !== undefined) {
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
      else this.#word(into, false, true);
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
      else this.#word(into, false, true);
    } while (closers.length > 0);
    return true;
  }

  #atWord(slashes = false): boolean {
    const character = this.#text[this.#at];
    return character !== undefined && !PUNCTUATION.has(character) && (slashes || character !== "#");
  }

  /**
   * A bare or quoted word. Where a name may stand, a `/` begins a bare pattern; where a value may stand, it is a letter
   * like any other (`10.0.0.0/8`).
   */
  #word(into: Statement[], asName: boolean, asValue = false): Word | undefined {
    const start = this.#at;
    const character = this.#text[start] ?? "";
    if (character === '"' || character === "'") return this.#string(into, character, asValue);
    if (character === "/" && asName) return this.#barePattern();
    const bare = asValue ? /[^\s#"'={}[\]()]+/y : /[^\s#/"'={}[\]()]+/y;
    bare.lastIndex = start;
    const [text] = bare.exec(this.#text) ?? [];
    if (text === undefined) {
      this.#at++;
      into.push(mistake(start, start + 1, `expected an option or a stanza, found \`${character}\``));
      this.#toNextLine();
      return undefined;
    }
    this.#at += text.length;
    return { text, start, end: this.#at, quoted: 0 };
  }

  #string(into: Statement[], quotes: string, multiline: boolean): Word {
    const start = this.#at;
    const end = this.#closingQuote(start, quotes);
    const lineEnd = endOr(this.#text.indexOf("\n", start), this.#text.length);
    if (end === -1 || (!multiline && lineEnd < end)) {
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
    const brace = this.#text.lastIndexOf("{", lineEnd);
    const rest = this.#text.slice(start, brace > start ? brace : lineEnd).trimEnd();
    this.#at = start + rest.length;
    return { text: rest.slice(quoted), start, end: this.#at, quoted };
  }

  #closingQuote(start: number, quotes: string): number {
    let end = start + 1;
    while (end < this.#text.length && this.#text[end] !== quotes) {
      const next = this.#text[end + 1];
      end += quotes === '"' && this.#text[end] === "\\" && (next === '"' || next === "\\") ? 2 : 1;
    }
    return end < this.#text.length ? end : -1;
  }

  /** Without its closing slash the word is returned as it is, for the builder to complain about. */
  #barePattern(): Word {
    const start = this.#at;
    const pattern = /\/(?:[^\n\\/]|\\[^\n])*\//y;
    pattern.lastIndex = start;
    const [text] = pattern.exec(this.#text) ?? [];
    if (text === undefined) return this.#restOfLine(endOr(this.#text.indexOf("\n", start), this.#text.length), 0);
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
      if (character === "#") this.#at = endOr(this.#text.indexOf("\n", this.#at), this.#text.length);
      else if (character === "/" && this.#text[this.#at + 1] === "*") this.#comment(into);
      else return;
    }
  }

  #comment(into: Statement[]): void {
    const start = this.#at;
    const end = this.#text.indexOf("*/", start + 2);
    if (end === -1) into.push(mistake(start, start + 2, "`/*` is never closed"));
    this.#at = end === -1 ? this.#text.length : end + 2;
  }

  /** After a mistake, reading goes on at the next line, or at a brace before that. */
  #toNextLine(): void {
    const rest = /[^\n{}]*/y;
    rest.lastIndex = this.#at;
    rest.exec(this.#text);
    this.#at = rest.lastIndex;
    if (this.#text[this.#at] === "{") {
      this.#at++;
      this.#skipBody([], this.#at - 1);
    }
  }
}

const endOr = (found: number, end: number): number => (found === -1 ? end : found);

const excerptOf = (word: Word): string => (word.text.length > 40 ? `${word.text.slice(0, 40)}…` : word.text);

const mistake = (start: number, end: number, message: string, help?: string): Statement => ({ is: "mistake", start, end, message, help });
