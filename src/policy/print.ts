// A policy as text that parses to an equal policy.

import { OPTIONS } from "./options.js";
import { asWritten, isGrouped, type PolicyData, quote, type Scope, scopesIn } from "./policy.js";

/** Momentum syntax, two spaces a level, options before stanzas. */
export function printPolicy(data: PolicyData): string {
  const lines = printScope(data.root, data);
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

function printScope(scope: Scope, data: PolicyData): string[] {
  const lines: string[] = [];
  const written = scope.kind === "binding" && !isGrouped(scope) ? data.writtenGroup.get(scope.name) : undefined;
  if (written !== undefined) lines.push(`binding_group = ${quote(written)}`);
  for (const option of OPTIONS) {
    const setting = scope.settings.get(option);
    if (setting !== undefined) lines.push(`${option} = ${asWritten(setting.limit)}`);
  }
  for (const inner of scopesIn(scope).flatMap((scopes) => [...scopes.values()])) {
    lines.push(`${inner.kind} ${quote(inner.name)} {`, ...printScope(inner, data).map((line) => `  ${line}`), "}");
  }
  return lines;
}
