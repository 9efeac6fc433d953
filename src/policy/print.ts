// A policy as text that parses to an equal policy.

import { OPTIONS } from "./options.js";
import { isGrouped, type Names, type PolicyData, quote, type Scope } from "./policy.js";

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
    if (setting !== undefined)
      lines.push(`${option} = ${setting.limit === Number.POSITIVE_INFINITY ? -1 : setting.limit}`);
  }
  for (const inner of [
    ...scope.groups.values(),
    ...scope.bindings.values(),
    ...stanzas(scope.domains),
    ...stanzas(scope.hosts),
  ]) {
    lines.push(`${inner.kind} ${quote(inner.name)} {`, ...printScope(inner, data).map((line) => `  ${line}`), "}");
  }
  return lines;
}

function stanzas(names: Names): Iterable<Scope> {
  return [...names.literals.values(), ...names.patterns.values()];
}
