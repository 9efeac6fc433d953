// The reports as text: tables for a terminal. Two reports stand in the same cells, as `before → after`.

import { placeOf } from "../errors.js";
import type { Milliseconds } from "../types.js";
import type { LimitRow, Report, WaitRow } from "./report.js";

const LONGEST_NAME = 60;

/** A time in the unit one would say it in. */
export function inTime(time: Milliseconds): string {
  if (time < 1000) return `${Math.round(time)} ms`;
  const inUnit = (unit: Milliseconds): number => Math.round((time / unit) * 10) / 10;
  if (time < 120_000) return `${inUnit(1000)} s`;
  return time < 7_200_000 ? `${inUnit(60_000)} min` : `${inUnit(3_600_000)} h`;
}

export const percent = (part: number): string => `${Math.round(part * 100)} %`;

/** A name of any length in a length that a table bears. */
export const cut = (name: string): string => (name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME)}…` : name);

const inWords = ({ target: { domain, binding = "default", host } }: WaitRow): string =>
  `${domain} via ${binding}${host === undefined ? "" : `, host ${host}`}`;

type Column<R> = readonly [title: string, cell: (row: R) => string | number];
type Columns<R> = readonly [name: Column<R>, ...Column<R>[]];

const LIMITS: Columns<LimitRow> = [
  ["limit on", ({ counts }) => cut(counts)],
  ["limit", (row) => row.limit],
  ["most", (row) => row.peak],
  ["mean", (row) => row.mean.toFixed(1)],
  ["full", (row) => percent(row.full)],
  ["held up", (row) => row.heldUp],
  ["for, in all", (row) => inTime(row.waited)],
];
const DOMAINS: Columns<WaitRow> = [
  ["domain", ({ target }) => cut(target.domain)],
  ["asked", (row) => row.asked],
  ["admitted", (row) => row.admitted],
  ["waited", (row) => row.delayed],
  ["median", (row) => inTime(row.median)],
  ["90 %", (row) => inTime(row.p90)],
  ["99 %", (row) => inTime(row.p99)],
  ["longest", (row) => inTime(row.longest)],
];
const STARVED: Columns<WaitRow> = [
  ["never admitted", (row) => cut(inWords(row))],
  ["asked", (row) => row.asked],
  ["longest", (row) => inTime(row.longest)],
];

/** What happened in all, a line a report, and a table for each question. */
export function textOf(reports: readonly Report[]): string {
  const limits = reports.map((report) => report.limits);
  const domains = reports.map((report) => report.domains);
  const starved = reports.map((report) => report.starved);
  const more = (kind: keyof Report["count"]): string[] => {
    const most = Math.max(...reports.map((report) => report.count[kind] - report[kind].length));
    return most === 0 ? [""] : [`… and ${most} more`, ""];
  };
  return [
    ...reports.map(summary),
    "",
    ...table(
      limits,
      ({ key }) => key,
      LIMITS,
      ({ setAt }) => placeOf(setAt),
    ),
    ...more("limits"),
    ...table(domains, ({ target }) => target.domain, DOMAINS),
    ...more("domains"),
    ...(starved.flat().length === 0 ? ["Nobody was left out."] : table(starved, inWords, STARVED)),
    ...more("starved"),
  ].join("\n");
}

function summary(report: Report): string {
  const { policy, span, asked, admitted, admittedPerSecond, timedOut, refused, stillWaiting } = report;
  return (
    `${policy}: ${asked} requests in ${inTime(span)}, ${admitted} admitted (${admittedPerSecond.toFixed(1)} a second), ` +
    `${timedOut} timed out, ${refused} refused, ${stillWaiting} waiting at the end`
  );
}

/** A row for each key of any report; a report that has it not among its first rows shows a dash. */
function table<R>(
  lists: readonly (readonly R[])[],
  key: (row: R) => string,
  [name, ...columns]: Columns<R>,
  note: (row: R) => string = () => "",
): string[] {
  const maps = lists.map((list) => new Map(list.map((row) => [key(row), row])));
  const body = [...new Map(maps.flatMap((map) => [...map]))].map(([one, row]) => {
    const rows = maps.map((map) => map.get(one));
    const cells = columns.map(([, cell]) => rows.map((each) => (each === undefined ? "–" : String(cell(each)))));
    // What is the same in all is said once.
    return [String(name[1](row)), ...cells.map((values) => [...new Set(values)].join(" → ")), note(row)];
  });
  const lines = [[name[0], ...columns.map(([title]) => title), ""], ...body];
  const widths = [name, ...columns].map((_, index) => Math.max(...lines.map((line) => line[index]?.length ?? 0)));
  return lines.map(([first = "", ...rest]) =>
    [first.padEnd(widths[0] ?? 0), ...rest.map((cell, index) => cell.padStart(widths[index + 1] ?? 0))]
      .join("  ")
      .trimEnd(),
  );
}
