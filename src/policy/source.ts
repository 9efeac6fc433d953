// Offsets into a policy text as lines and columns, and the excerpt with a caret under the words meant.

/** Where an issue is, or where a limit was written. Line and column are 0 where there is no text. */
export interface Spot {
  readonly source: string;
  readonly line: number;
  readonly column: number;
  /** Compares places: the offset, behind those of the includes that lead to it. */
  readonly order: readonly number[];
  excerpt(): string;
  /** A piece of the text at this spot; the spot itself where pieces cannot be told apart. */
  part(start: number, length: number): Spot;
}

/** The longest piece of a line shown on either side of the caret. */
const AROUND = 80;

/** One policy text. The only place that knows lines and columns; everybody else passes offsets. */
export class Source {
  readonly name: string;
  readonly text: string;
  /** The place of the include that brought it in. */
  readonly includedAt: readonly number[];
  #starts: number[] | undefined;

  constructor(name: string, text: string, includedAt: readonly number[] = []) {
    this.name = name;
    this.text = text;
    this.includedAt = includedAt;
  }

  /** `inside` is where the text of a quoted word begins, if it stands there letter for letter. */
  spot(start: number, end: number, inside?: number): Spot {
    return new TextSpot(this, start, end, inside);
  }

  /** Index of the line that holds `offset`, and the offset of its first character. */
  lineAt(offset: number): { readonly index: number; readonly start: number } {
    this.#starts ??= lineStarts(this.text);
    let low = 0;
    let high = this.#starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.#starts[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return { index: low, start: this.#starts[low] ?? 0 };
  }
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (let end = text.indexOf("\n"); end !== -1; end = text.indexOf("\n", end + 1)) starts.push(end + 1);
  return starts;
}

class TextSpot implements Spot {
  readonly #text: Source;
  readonly #start: number;
  readonly #end: number;
  readonly #inside: number | undefined;

  constructor(text: Source, start: number, end: number, inside: number | undefined) {
    this.#text = text;
    this.#start = start;
    this.#end = end;
    this.#inside = inside;
  }

  get source(): string {
    return this.#text.name;
  }

  get line(): number {
    return this.#text.lineAt(this.#start).index + 1;
  }

  get column(): number {
    return this.#start - this.#text.lineAt(this.#start).start + 1;
  }

  get order(): readonly number[] {
    return [...this.#text.includedAt, this.#start];
  }

  part(start: number, length: number): Spot {
    if (this.#inside === undefined) return this;
    return this.#text.spot(this.#inside + start, this.#inside + start + length);
  }

  excerpt(): string {
    const { text } = this.#text;
    const { start } = this.#text.lineAt(this.#start);
    const stop = text.indexOf("\n", this.#start);
    const lineEnd = stop === -1 ? text.length : stop;
    const from = Math.max(start, this.#start - AROUND);
    const to = Math.min(lineEnd, this.#start + AROUND);
    const shown = printable(to < lineEnd ? text.slice(from, to) : text.slice(from, to).trimEnd());
    // Tabs stay tabs, so that the caret stands under the words however wide a tab is.
    const pad = text.slice(from, this.#start).replace(/[^\t]/g, " ");
    const carets = "^".repeat(Math.max(1, Math.min(this.#end, to) - this.#start));
    const left = from > start ? "…" : "";
    const right = to < lineEnd ? "…" : "";
    const number = String(this.line);
    const margin = " ".repeat(number.length);
    return `  ${number} | ${left}${shown}${right}\n  ${margin} | ${left && " "}${pad}${carets}`;
  }
}

/** The longest sentence shown; only words of the policy itself make one that long. */
const LONGEST = 300;

/** A sentence with words of the policy in it: on one line, cut short where such a word is very long. */
export function sentence(text: string): string {
  const line = printable(text.replace(/\s+/g, " "));
  return line.length > LONGEST ? `${line.slice(0, LONGEST)}…` : line;
}

/** An escape sequence in a policy file must not reach the operator's terminal. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: making them visible is what this is for
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "\ufffd");
}
