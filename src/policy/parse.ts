// Policy text → Policy: every statement goes through the checks of the builder, and included files in their places.

import type { ParseOptions, Policy } from "../types.js";
import { PolicyBuilder } from "./build.js";
import type { Scope } from "./policy.js";
import { Source, type Spot } from "./source.js";
import { readStatements } from "./statements.js";
import type { PolicyFile, Statement, Word } from "./syntax.js";

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
    } else {
      addIncluded(builder, scope, source, statement);
    }
  }
}

function addIncluded(
  builder: PolicyBuilder,
  scope: Scope,
  source: Source,
  statement: Statement & { is: "include" },
): void {
  const spot = spotOf(source, statement.path);
  if (statement.included === undefined) {
    builder.issue(
      spot,
      "include",
      "`include` in a policy that is not read from a file",
      "read the file with `loadPolicy`",
    );
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
