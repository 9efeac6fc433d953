// report.ts: what the operator sees: a line while it runs, then a table and one sentence.
import type { ExplainedLimit } from "../../src/index.js";
import type { Tally } from "./receivers.js";

const tty = process.stdout.isTTY;
const coloured = tty && !process.env["NO_COLOR"];
const paint = (code: number) => (text: string) => (coloured ? `\x1b[${code}m${text}\x1b[0m` : text);
export const bold: (text: string) => string = paint(1);
const dim = paint(2);
const red = paint(31);
const green = paint(32);

/** Prints in place of the progress line, if there is one. */
export function print(text: string): void {
  console.log(tty ? `\r\x1b[K${text}` : text);
}

/** Shows `describe()` while `work` goes on: in place on a terminal, else a line every two seconds. */
export async function withProgress(describe: () => string, work: Promise<void>): Promise<void> {
  const show = () => (tty ? process.stdout.write(`\r\x1b[K${describe()}`) : console.log(describe()));
  const timer = setInterval(show, tty ? 100 : 2000);
  try {
    await work;
  } finally {
    clearInterval(timer);
    print(describe());
  }
}

/** One limit: what the policy says and what the servers counted, in both runs. */
export interface Row {
  readonly policy: ExplainedLimit;
  readonly without: Tally;
  readonly with: Tally;
  readonly note: string;
}

const widths = [39, 8, 11, 6, 10, 6, 10, 6];
const columns = (cells: readonly (string | number)[]) =>
  cells.map((cell, i) => (i === 0 ? String(cell).padEnd(widths[i]!) : String(cell).padStart(widths[i]!))).join("");

export function printTable(rows: readonly Row[]): void {
  print("");
  print(columns(["", "", "most at", "once", "refused", "421", "connec", "tions"]));
  print(bold(columns(["limit, as the servers have it", "at once", "without", "with", "without", "with", "without", "with"])));
  for (const { policy, without, with: limited, note } of rows) {
    const over = limited.peak > limited.limit;
    const numbers = [without.peak, limited.peak, without.refused, limited.refused, without.connections, limited.connections];
    print(`${columns([limited.label, limited.limit, ...numbers])}  ${over ? red("OVER") : green("ok")}`);
    const { scope, source, line, column } = policy.setAt ?? {};
    print(dim(`  ${policy.option} = ${policy.limit}${policy.setAt ? `, ${source}:${line}:${column}, ${scope}` : ", built in"}${note}`));
  }
}
