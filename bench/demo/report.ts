// report.ts: what the operator sees: a line while it runs, then a table and one sentence.
import { basename } from "node:path";
import type { ExplainedLimit } from "../../src/index.js";
import type { Tally } from "./receivers.js";

const tty = process.stdout.isTTY;
const coloured = tty && !process.env["NO_COLOR"];
const paint = (code: number) => (text: string) => (coloured ? `\x1b[${code}m${text}\x1b[0m` : text);
export const bold: (text: string) => string = paint(1);
const dim = paint(2);
export const red: (text: string) => string = paint(31);
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

/** One limit: what the policy says, and what the servers counted in each run. */
export interface Row {
  /** undefined: the policy sets no limit here. */
  readonly policy: ExplainedLimit | undefined;
  readonly without: Tally;
  readonly limited: Tally;
  readonly note: string;
}

export function printTable(rows: readonly Row[]): void {
  print(tableLine("", "", ["most at once", "421 answers", "connections"].map((title) => title.padStart(17)).join("")));
  print(bold(tableLine("limit, as the servers count", "limit", "  without    with".repeat(3))));
  for (const { policy, without, limited, note } of rows) {
    const counts = (["peak", "refused", "connections"] as const).flatMap((what) => [without[what], limited[what]]);
    const cells = counts.map((count, i) => String(count).padStart(i % 2 === 0 ? 9 : 8)).join("");
    print(`${tableLine(limited.label, limited.limit, cells)}  ${isOver(limited) ? red("OVER") : green("ok")}`);
    printLimit(policy, note);
  }
}

function printLimit(policy: ExplainedLimit | undefined, note: string): void {
  const { option, limit, setAt } = policy ?? {};
  const place = setAt ? `${basename(setAt.source)}:${setAt.line} in ${setAt.scope}` : "built in";
  print(dim(policy ? `  ${option} = ${limit}${note}, ${place}` : "  no limit in the policy"));
}

function tableLine(label: string, limit: string | number, cells: string): string {
  return `${label.padEnd(40)}${String(limit).padStart(6)}${cells}`;
}

function isOver({ peak, limit }: Tally): boolean {
  return peak > limit;
}

/** Says whether the limiter kept its word. */
export function printVerdict(rows: readonly Row[], total: number, delivered: number): boolean {
  const over = rows.map(({ limited }) => limited).filter(isOver);
  const faults = over.map(({ label, peak, limit }) => `${label}: ${peak} at once where ${limit} are allowed`);
  if (delivered < total) faults.push(`${total - delivered} of ${total} messages not delivered`);
  const good = `all ${total} messages arrived and no server ever counted more than its limit`;
  print(faults.length === 0 ? green(`\nWith the limiter ${good}.`) : red(`\nWith the limiter: ${faults.join("; ")}.`));
  return faults.length === 0;
}

/** One limit of the cluster, and what the servers counted; in the tally, most at once is since the kill. */
export interface ClusterRow {
  readonly policy: ExplainedLimit | undefined;
  readonly tally: Tally;
  /** Most at once before the kill. */
  readonly before: number;
}

export function printClusterTable(rows: readonly ClusterRow[]): void {
  const widths = [9, 8, 13, 13];
  const cells = (texts: readonly (string | number)[]) =>
    texts.map((text, i) => String(text).padStart(widths[i] ?? 0)).join("");
  print(tableLine("", "", "most at once".padStart(17)));
  const titles = cells(["before", "after", "421 answers", "connections"]);
  print(bold(tableLine("limit, as the servers count", "limit", titles)));
  for (const { policy, tally, before } of rows) {
    const counts = cells([before, tally.peak, tally.refused, tally.connections]);
    const over = isOver(tally) || before > tally.limit;
    print(`${tableLine(tally.label, tally.limit, counts)}  ${over ? red("OVER") : green("ok")}`);
    printLimit(policy, "");
  }
}

/** Says whether the limiter kept its word; `faults` beside limits that were exceeded. */
export function printClusterVerdict(rows: readonly ClusterRow[], faults: readonly string[]): boolean {
  const over = rows.flatMap(({ tally: { label, limit, peak }, before }) => {
    const most = Math.max(before, peak);
    return most > limit ? `${label}: ${most} at once where ${limit} are allowed` : [];
  });
  const all = [...over, ...faults];
  const good = "No server ever counted more than its limit, and the slots of the killed sender came back in time.";
  print(all.length === 0 ? green(`\n${good}`) : red(`\n${all.join("; ")}.`));
  return all.length === 0;
}
