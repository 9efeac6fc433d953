// What is noted about a text while it is read, and how that is told: as an issue.

import type { PolicyIssue } from "../types.js";
import { type Spot, sentence } from "./source.js";

/** More issues would not be read. */
export const MOST_ISSUES = 50;

/** Something wrong, or something that deserves a look, and where. */
export interface Note {
  readonly spot: Spot;
  readonly rule: PolicyIssue["rule"];
  readonly message: string;
  readonly help: string | undefined;
}

export function issueOf({ spot, rule, message, help }: Note): PolicyIssue {
  const { source, line, column } = spot;
  const said = { rule, message: sentence(message), ...(help === undefined ? {} : { help: sentence(help) }) };
  return Object.freeze({ ...said, source, line, column, excerpt: spot.excerpt() });
}
