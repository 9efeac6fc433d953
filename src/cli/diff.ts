// outbound-limiter diff: which targets, or which stanzas, get another limit from a changed policy.

import { createLimiter, type Policy, type Target } from "../index.js";
import { readArguments, readOperands } from "./arguments.js";
import {
  type LimitChange,
  limitChanges,
  type StanzaChange,
  type StanzaValue,
  stanzaChanges,
  type Written,
} from "./changes.js";
import { type Command, type Io, type Output, Trouble } from "./command.js";
import { explained } from "./explain.js";
import { checkInputs, nameOf, readPolicy, readText } from "./files.js";
import { type ListedTarget, readTargets, targetInWords } from "./targets.js";

const HELP = `Says what changes between two policies, each limit as old → new with the places where both are written.

Usage: outbound-limiter diff [OPTION]… OLD NEW

OLD and NEW are read with their includes; - is the standard input. Without --targets: every option of every stanza that
was given another value, bindings that were put into another group, and patterns that are asked in another order.

Options:
  --targets FILE    only what changes for these targets, whatever stanza it comes from; - is the standard input
  --ignore-unknown  skip options and stanzas that are not ours: reads a whole ecelerity.conf
  --json            a list of the changes: scope, what, old and new; with --targets, of the targets and their changes
  --help            this text

A list of targets has a line each: a domain, then if needed its binding, its group and its MX host. \`-\` leaves one out,
\`#\` begins a comment. A line can also be a JSON object with the fields domain, binding, bindingGroup and host.

  gmail.com
  orange.fr  bulk-1
  orange.fr  bulk-1  -  smtp-in.orange.fr
  {"domain": "orange.fr", "binding": "bulk-1", "host": "smtp-in.orange.fr"}

Exit status: 0 nothing changes, 1 something does, 2 a policy cannot be used or the list cannot be read.

Examples:
  outbound-limiter diff limits.conf limits.new.conf
  outbound-limiter diff limits.conf limits.new.conf --targets busy-domains.txt
  git show HEAD:limits.conf | outbound-limiter diff - limits.conf
`;

const OPTIONS = {
  targets: { type: "string" },
  "ignore-unknown": { type: "boolean" },
  json: { type: "boolean" },
} as const;

/** How many targets pass between two words of how far it is. */
const PROGRESS_EVERY = 1_000;

export const diff: Command = {
  name: "diff",
  summary: "says which targets or stanzas get another limit from a changed policy",
  help: HELP,
  async run(args, io) {
    const { values, positionals } = readArguments(args, OPTIONS);
    const [oldPath, newPath] = readOperands(positionals, ["OLD", "NEW"]);
    checkInputs([oldPath, newPath, values.targets]);
    const old = await readPolicy(oldPath, io, values["ignore-unknown"]);
    const now = await readPolicy(newPath, io, values["ignore-unknown"]);
    if (values.targets === undefined) {
      const changes = stanzaChanges(old, now);
      io.stdout.write(values.json ? jsonText(changes) : stanzasText(changes, io.stdout));
      return changes.length === 0 ? 0 : 1;
    }
    const listed = readTargets(await readText(values.targets, io), nameOf(values.targets));
    const changed = targetChanges(old, now, listed, nameOf(values.targets), io);
    io.stdout.write(values.json ? jsonText(changed) : targetsText(changed, listed.length, io.stdout));
    return changed.length === 0 ? 0 : 1;
  },
};

interface TargetChanges {
  readonly target: Target;
  readonly changes: readonly LimitChange[];
}

/** @throws {Trouble} a target is malformed, or contradicts one of the policies */
function targetChanges(
  old: Policy,
  now: Policy,
  listed: readonly ListedTarget[],
  list: string,
  io: Io,
): readonly TargetChanges[] {
  const [before, after] = [createLimiter(old), createLimiter(now)];
  const changed: TargetChanges[] = [];
  for (const [index, { target, line }] of listed.entries()) {
    if (index % PROGRESS_EVERY === 0) io.progress(`${index} of ${listed.length} targets`);
    try {
      const changes = limitChanges(explained(before, target).limits, explained(after, target).limits);
      if (changes.length > 0) changed.push({ target, changes });
    } catch (error) {
      throw error instanceof Trouble ? new Trouble(`${list}:${line}: ${error.message}`) : error;
    }
  }
  return changed;
}

const jsonText = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

function stanzasText(changes: readonly StanzaChange[], output: Output): string {
  if (changes.length === 0) return "No stanza gets another limit.\n";
  const lines: string[] = [];
  for (const [index, { scope, what, old, new: now }] of changes.entries()) {
    if (scope !== changes[index - 1]?.scope) lines.push(output.paint("bold", scope));
    const values = [old, now].map((side) => String(side?.value ?? "not set"));
    lines.push(`  ${what}: ${values.join(" → ")}`);
    const places = [old, now].flatMap((side) => (side?.setAt ? [placeIn(side.setAt)] : []));
    if (places.length > 0) lines.push(output.paint("dim", `    ${places.join(" → ")}`));
  }
  return `${lines.join("\n")}\n`;
}

function targetsText(changed: readonly TargetChanges[], all: number, output: Output): string {
  const lines: string[] = [];
  for (const { target, changes } of changed) {
    lines.push(output.paint("bold", targetInWords(target)));
    for (const { counts, reach, old, new: now } of changes) {
      const values = [old, now].map((side) => String(side?.limit ?? "not limited"));
      lines.push(`  ${counts}${reach === "cluster" ? ", cluster" : ""}: ${values.join(" → ")}`);
      lines.push(output.paint("dim", `    ${sideInWords(old)} → ${sideInWords(now)}`));
    }
  }
  const summary = `${changed.length} of ${all} target${all === 1 ? " gets" : "s get"} another limit.`;
  return `${[...lines, changed.length === 0 ? `None of ${all} targets gets another limit.` : summary].join("\n")}\n`;
}

function sideInWords(side: Written | null): string {
  if (side === null) return "not limited";
  return `${side.option}, ${side.setAt === null ? "built-in default" : `${placeIn(side.setAt)} in ${side.setAt.scope}`}`;
}

const placeIn = ({ source, line, column }: NonNullable<StanzaValue["setAt"]>): string => `${source}:${line}:${column}`;
