// A list of targets: a line each, `domain [binding [group [host]]]`, or a JSON object with the fields of a target.

import type { Target } from "../index.js";
import { Trouble } from "./command.js";

/** A target and the line it stands on. */
export interface ListedTarget {
  readonly target: Target;
  readonly line: number;
}

/** In the order of a line's words. */
const FIELDS = ["domain", "binding", "bindingGroup", "host"] as const;
/** The word that leaves its field out. */
const LEFT_OUT = "-";

/**
 * Reads a list of targets. Empty lines, and those that begin with `#`, say nothing.
 *
 * @param source the name of the list in messages
 * @throws {Trouble} the first line that is no target
 */
export function readTargets(text: string, source: string): ListedTarget[] {
  const targets: ListedTarget[] = [];
  for (const [index, raw] of text.split("\n").entries()) {
    const words = raw.trim();
    if (words === "" || words.startsWith("#")) continue;
    const target = words.startsWith("{") ? fromJson(words) : fromWords(words.split(/\s+/));
    if (typeof target === "string") throw new Trouble(`${source}:${index + 1}: ${target}`);
    targets.push({ target, line: index + 1 });
  }
  return targets;
}

/** The target, or what is wrong with it. */
function fromWords(words: readonly string[]): Target | string {
  if (words.length > FIELDS.length) return "more than four words; a line is `domain [binding [group [host]]]`";
  const [domain, binding, bindingGroup, host] = words.map((word) => (word === LEFT_OUT ? undefined : word));
  return domain === undefined ? "a target needs a domain" : { domain, binding, bindingGroup, host };
}

function fromJson(text: string): Target | string {
  let value: object;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return `not JSON: ${(error as Error).message}`;
  }
  for (const [field, word] of Object.entries(value)) {
    if (!FIELDS.some((known) => known === field)) {
      return `unknown field ${JSON.stringify(field)}; a target has ${FIELDS.join(", ")}`;
    }
    if (typeof word !== "string") return `${field} is not a string`;
  }
  return "domain" in value ? (value as Target) : "a target needs a domain";
}

/** A target in words. */
export function targetInWords({ domain, binding = "default", bindingGroup, host }: Target): string {
  const group = bindingGroup === undefined ? "" : ` (group ${bindingGroup})`;
  return `${domain} via ${binding}${group}${host === undefined ? "" : `, host ${host}`}`;
}
