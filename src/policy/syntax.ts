// What a policy text consists of, as types: words, statements, files.

import type { Source } from "./source.js";

/** A piece of the text and what it says. */
export interface Word {
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
  | {
      readonly is: "option";
      readonly key: Word;
      readonly value: Word | undefined;
      readonly valueStart: number;
      readonly valueEnd: number;
    }
  | { readonly is: "stanza"; readonly key: Word; readonly name: Word | undefined; readonly body: readonly Statement[] }
  | { readonly is: "include"; readonly key: Word; readonly path: Word; included: readonly Included[] | undefined }
  | Mistake;

/** What cannot be read. */
export interface Mistake {
  readonly is: "mistake";
  readonly start: number;
  readonly end: number;
  readonly message: string;
  readonly help: string | undefined;
}

/** One text and its statements. */
export interface PolicyFile {
  readonly source: Source;
  readonly statements: readonly Statement[];
}
