// What was measured, as tables for the terminal and as RESULTS.md with its charts.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { shown, svg } from "./charts.js";
import type { Figure, Outcome } from "./measure.js";
import { PARTS, type Part } from "./parts.js";

/** Whether a figure reaches its goal; undefined: it has none. */
function isMet({ value, most, least }: Figure): boolean | undefined {
  if (most !== undefined) return value <= most;
  return least === undefined ? undefined : value >= least;
}

function goalOf({ unit, most, least }: Figure): string {
  if (most !== undefined) return `≤ ${shown(most)} ${unit}`;
  return least === undefined ? "" : `≥ ${shown(least)} ${unit}`;
}

function verdictOf(figure: Figure): string {
  const { value, most, least = 0 } = figure;
  switch (isMet(figure)) {
    case undefined:
      return "";
    case true:
      return "yes";
    case false: {
      const [dearer, cheaper] = most === undefined ? [least, value] : [value, most];
      return `no: ${shown(dearer / cheaper)} times too ${most === undefined ? "little" : "much"}`;
    }
  }
}

function measuredOf({ value, unit, between }: Figure): string {
  const spread = between === undefined ? "" : ` (${shown(between[0])}–${shown(between[1])})`;
  return `${shown(value)} ${unit}${spread}`;
}

export function printOutcome(name: string, { figures }: Outcome): void {
  console.log(`\n${PARTS[name]?.title}  (npm run bench -- ${name})`);
  const width = Math.max(...figures.map(({ what }) => what.length));
  for (const figure of figures) {
    const cells = [figure.what.padEnd(width), measuredOf(figure).padEnd(26), goalOf(figure).padEnd(16)];
    console.log(`  ${cells.join("  ")}  ${verdictOf(figure)}`.trimEnd());
  }
}

/** Where it was measured: no names of machines, no paths. */
export function machine(): string {
  const model = cpus()[0]?.model.trim() ?? "unknown CPU";
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  return `${cpus().length} × ${model}, ${memory}, ${process.platform} ${process.arch}, Node ${process.version}, commit ${commit()}`;
}

function commit(): string {
  const git = (...words: string[]): string =>
    execFileSync("git", words, { cwd: import.meta.dirname, encoding: "utf8", stdio: "pipe" }).trim();
  try {
    const isChanged = git("status", "--porcelain", "--", "../src") !== "";
    return git("rev-parse", "--short", "HEAD") + (isChanged ? " with changes in src" : "");
  } catch {
    return "unknown";
  }
}

const hasGoal = (figure: Figure): boolean => isMet(figure) !== undefined;
export const isMissed = (figure: Figure): boolean => isMet(figure) === false;

const commandOf = (name: string): string => `\`npm run bench -- ${name}\``;

/** One row a figure, between bars. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** Between the half of the file that one process measures and the half of the parts over processes. */
const HALVES = "<!-- over processes -->";
export const isOverProcesses = (name: string): boolean => name.startsWith("cluster-");

/** Writes the halves of RESULTS.md that were measured; the other one stays as it is. */
export function writeResults(outcomes: ReadonlyMap<string, Outcome>): void {
  const file = new URL("RESULTS.md", import.meta.url);
  const [first, second] = existsSync(file) ? readFileSync(file, "utf8").split(HALVES) : [];
  const halves = [first, second].map((before, at) => {
    const measured = [...outcomes].filter(([name]) => isOverProcesses(name) === (at === 1));
    if (measured.length === 0) return before ?? "";
    const head =
      at === 0
        ? "# Results of the bench\n\nWritten by `npm run bench`. Ratios are medians of interleaved rounds of CPU time within one run, quartiles in brackets; each part runs in a process of its own, on the built package. Times are this machine's, for orientation.\n\n"
        : "\n\n# Over processes\n\nWritten by `npm run bench -- cluster`, a part of `npm run bench`.\n\n";
    return `${head}${halfOf(measured)}\n`;
  });
  writeFileSync(file, `${halves[0]?.trimEnd()}\n\n${HALVES}\n\n${halves[1]?.trim()}\n`);
}

function halfOf(outcomes: readonly (readonly [name: string, outcome: Outcome])[]): string {
  const goals: string[][] = [];
  const sections: string[] = [];
  for (const [name, outcome] of outcomes) {
    const part = PARTS[name] as Part;
    for (const chart of outcome.charts ?? []) writeFileSync(new URL(chart.file, import.meta.url), svg(chart));
    for (const figure of outcome.figures.filter(hasGoal))
      goals.push([part.title, figure.what, goalOf(figure), measuredOf(figure), verdictOf(figure), commandOf(name)]);
    sections.push(section(name, part, outcome));
  }
  const missed = outcomes.flatMap(([, { figures }]) => figures).filter(isMissed).length;
  return [
    `Measured on ${machine()}, ${new Date().toISOString().slice(0, 10)}.`,
    `## Goals\n\n${goals.length - missed} of ${goals.length} met. Why a goal is missed stands with its part below.`,
    table(["part", "what", "goal", "measured", "met", "command"], goals),
    ...sections,
  ].join("\n\n");
}

function section(name: string, { title, how, missed }: Part, { figures, charts = [] }: Outcome): string {
  return [
    `## ${title}`,
    commandOf(name),
    how,
    ...charts.map((chart) => `![${chart.title}](${chart.file})`),
    table(
      ["what", "measured", "goal", "met"],
      figures.map((figure) => [figure.what, measuredOf(figure), goalOf(figure), verdictOf(figure)]),
    ),
    ...(missed !== undefined && figures.some(isMissed) ? [`Why it is missed: ${missed}`] : []),
  ].join("\n\n");
}
