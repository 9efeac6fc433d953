// Issues of a policy as text for people and for tools that jump to `file:line:column`.

import { PolicyError, type PolicyIssue } from "../index.js";
import type { Output } from "./command.js";

/** Whether it says no more than that a word was skipped, as it was asked to be. */
export const isIgnored = ({ rule }: PolicyIssue): boolean => rule === "unknown-option" || rule === "unknown-stanza";

/** As a `PolicyError` shows it; a warning says that it is one. */
export function issueText(issue: PolicyIssue, output: Output): string {
  const [first = "", ...more] = new PolicyError([issue]).message.split("\n");
  const place = first.slice(0, first.length - issue.message.length);
  const rest = more.map((line) => line.replace(/(?<=^ +\| \s*)\^+$/, (carets) => output.paint("red", carets)));
  return `${[output.paint("bold", place) + issue.message, ...rest].join("\n")}\n`;
}

/** The same for a warning. On one line where the line of the policy says nothing more. */
export function warningText(warning: PolicyIssue, output: Output): string {
  const marked = { ...warning, message: `${output.paint("yellow", "warning:")} ${warning.message}` };
  return issueText(isIgnored(warning) ? { ...marked, excerpt: "" } : marked, output);
}
