// What the tests of this folder ask: the issues of a text, what an excerpt underlines, and which limit a policy gives.
import {
  createLimiter,
  type LimitOption,
  type ParseOptions,
  type Policy,
  PolicyError,
  type PolicyIssue,
  parsePolicy,
  type Target,
} from "../../src/index.js";

export const max = "max_outbound_connections";
export const scopeMax = "scope_max_outbound_connections";
export const serverMax = "server_max_outbound_connections";

export type Issue = PolicyIssue;

/** The issues that `read` throws, none if it returns. Any other error is thrown on. */
export function issuesBy(read: () => unknown): readonly Issue[] {
  try {
    read();
    return [];
  } catch (error) {
    if (error instanceof PolicyError) return error.issues;
    throw error;
  }
}

export function issuesOf(text: string, options: ParseOptions = { source: "limits.conf" }): readonly Issue[] {
  return issuesBy(() => parsePolicy(text, options));
}

/** The error that a text gets. */
export function errorOf(text: string, options: ParseOptions = { source: "limits.conf" }): PolicyError {
  try {
    parsePolicy(text, options);
  } catch (error) {
    if (error instanceof PolicyError) return error;
    throw error;
  }
  throw new Error(`No mistake found in: ${text}`);
}

/** The text above the carets, which is what a reader takes to be meant. Tabs before it must stand above tabs. */
export function underlined(excerpt: string): string {
  const [shown = "", carets = "", ...more] = excerpt.split("\n");
  const found = /^([^^]*)(\^+)$/.exec(carets);
  if (found === null || more.length > 0) throw new Error(`Not a line with carets under it:\n${excerpt}`);
  const [, pad = "", caret = ""] = found;
  if (shown.slice(0, pad.length).replace(/[^\t]/g, " ") !== pad.replace(/[^\t]/g, " ")) {
    throw new Error(`The tabs differ, so the caret does not stand under its words:\n${excerpt}`);
  }
  return shown.slice(pad.length, pad.length + caret.length);
}

/** The text from line and column on, to the end of its line. */
export function textAt(text: string, { line, column }: Pick<Issue, "line" | "column">): string {
  return text.split("\n")[line - 1]?.slice(column - 1) ?? "";
}

/** A policy text with one piece of it between « and »: the text without the marks, the piece, and where it begins. */
export function marked(written: string): { text: string; piece: string; line: number; column: number } {
  const [before = "", piece = "", after = "", ...more] = written.split(/[«»]/);
  if (more.length > 0) throw new Error(`Marked more than once: ${written}`);
  const lines = before.split("\n");
  return { text: before + piece + after, piece, line: lines.length, column: (lines.at(-1) ?? "").length + 1 };
}

/** The limits of that option for a target, smallest first. */
export function limitsOf(policy: Policy, target: Target, option: LimitOption = max): number[] {
  const found = createLimiter(policy)
    .explain(target)
    .limits.filter((limit) => limit.option === option);
  return found.map(({ limit }) => limit).sort((one, other) => one - other);
}
