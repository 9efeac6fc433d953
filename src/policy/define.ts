// Object → Policy, through the same checks as the text form.

import type { Policy, PolicyInput } from "../types.js";
import { PolicyBuilder } from "./build.js";
import { STANZAS } from "./options.js";
import type { Scope } from "./policy.js";
import { type Spot, sentence } from "./source.js";

const SOURCE = "policy";
const DEEPEST = 10;

/**
 * The same policy as `parsePolicy` makes, from a plain object one to one with the stanzas.
 *
 * @param input limits by option, and stanzas by keyword and name; -1 is unlimited, undefined is not set
 * @returns the policy, named "policy"
 * @throws {PolicyError} with every mistake, at most 50; each carries a path into the object instead of a line
 * @example
 * const policy = definePolicy({
 *   max_outbound_connections: 20,
 *   binding: { "mta-1": { domain: { "gmail.com": { max_outbound_connections: 50 } } } },
 *   domain: { "/^(wanadoo|orange)\\.fr$/": { scope_max_outbound_connections: 3 } },
 * });
 */
export function definePolicy(input: PolicyInput): Policy {
  const builder = new PolicyBuilder(false);
  addObject(builder, builder.root, input, "");
  return builder.finish(SOURCE);
}

function addObject(builder: PolicyBuilder, scope: Scope, input: unknown, path: string, depth = 0): void {
  if (!isObject(input)) {
    const message = path === "" ? "a policy must be a plain object" : `expected a plain object, found ${shown(input)}`;
    builder.issue(spotAt(path), "bad-value", message);
    return;
  }
  // Stanzas nest three deep; an object that holds itself would be read for ever.
  if (depth > DEEPEST) return;
  for (const [key, value] of Object.entries(input)) {
    if (value === undefined) continue;
    const inside = path === "" ? key : `${path}.${key}`;
    const stanza = STANZAS.has(key.toLowerCase()) && !(typeof value === "string" && scope.kind === "binding");
    if (stanza || isObject(value)) addStanzas(builder, scope, key, value, inside, depth);
    else {
      const spot = spotAt(inside);
      builder.set(scope, key, typeof value === "string" ? value : shown(value), spot, spot);
    }
  }
}

/** `keyword: { name: { … }, … }`. */
function addStanzas(
  builder: PolicyBuilder,
  scope: Scope,
  keyword: string,
  stanzas: unknown,
  path: string,
  depth: number,
): void {
  const spot = spotAt(path);
  if (!isObject(stanzas)) {
    builder.issue(spot, "bad-value", `expected a plain object of ${keyword} stanzas by name, found ${shown(stanzas)}`);
    return;
  }
  if (!STANZAS.has(keyword.toLowerCase())) {
    builder.enter(scope, keyword, undefined, spot, spot);
    return;
  }
  for (const [name, body] of Object.entries(stanzas)) {
    if (body === undefined) continue;
    const inside = `${path}[${JSON.stringify(name)}]`;
    const at = spotAt(inside);
    const inner = builder.enter(scope, keyword, name, at, at);
    if (inner !== undefined) addObject(builder, inner, body, inside, depth + 1);
  }
}

/** A plain one: the entries of a Map, say, would not be seen. */
function isObject(value: unknown): value is object {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // Those of another realm have another `Object.prototype`.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object" && value !== null) return isObject(value) ? "an object" : "an object of a class";
  return typeof value === "function" ? "a function" : String(value);
}

function spotAt(path: string): Spot {
  const spot: Spot = { source: SOURCE, line: 0, column: 0, order: [], excerpt: () => sentence(path), part: () => spot };
  return spot;
}
