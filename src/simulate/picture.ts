// The reports as a picture: use of the costliest limits over time against their limit, and waits by domain. Plain SVG.

import type { Milliseconds } from "../types.js";
import type { LimitRow, Report } from "./report.js";
import type { Run } from "./run.js";
import type { Curve } from "./tally.js";
import { cut, inTime, percent } from "./text.js";

const WIDTH = 860;
const LEFT = 20;
const INNER = WIDTH - 2 * LEFT;
const PANEL = 96;
/** Shorter waits are drawn as none. */
const SHORTEST: Milliseconds = 10;

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 16px } .note { fill: #59636e; font-size: 12px }
  .end { text-anchor: end } .ground { fill: #fff } .mean { fill: #54aeff } .peak { fill: #b6e3ff } .limit { stroke: #cf222e; stroke-dasharray: 5 3 }
  .grid { stroke: #d1d9e0 } .median { fill: #0969da } .p90 { fill: #54aeff } .p99 { fill: #b6e3ff } .longest { stroke: #1f2328 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .note { fill: #9198a1 } .ground { fill: #0d1117 } .grid { stroke: #3d444d } .longest { stroke: #f0f6fc }
    .peak, .p99 { fill: #0c2d6b } .mean, .p90 { fill: #1158c7 } .median { fill: #58a6ff } .limit { stroke: #f85149 }
  }`;

/** Refers to nothing outside itself, and takes no name for markup. */
export function svgOf(title: string, reports: readonly Report[], drawn: readonly Run[]): string {
  const body: string[] = [text(LEFT, 30, title, "title")];
  let top = 44;
  for (const [index, report] of reports.entries()) {
    const curves = new Map(drawn[index]?.tallies.map(({ key, curve }) => [key, curve]));
    body.push(text(LEFT, top + 16, `${report.policy}: the costliest limits over ${inTime(report.span)}`, "title"));
    body.push(
      text(LEFT, top + 34, "light: most connections at once; dark: connections in the mean; dashed: the limit", "note"),
    );
    top += 48;
    for (const row of report.limits) {
      const curve = curves.get(row.key);
      if (curve === undefined) continue;
      body.push(...panel(row, curve, top));
      top += PANEL + 36;
    }
  }
  const { lines, height } = waits(reports, top);
  body.push(...lines);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" role="img" aria-label="${escaped(title)}">`,
    `<style>${STYLE}\n</style>`,
    `<rect class="ground" width="${WIDTH}" height="${height}"/>`,
    ...body,
    "</svg>\n",
  ].join("\n");
}

/** The picture, and below it the report as text. */
export function htmlOf(title: string, picture: string, report: string): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escaped(title)}</title>
<style>:root { color-scheme: light dark } body { margin: 1em auto; max-width: 70em; padding: 0 1em } svg { max-width: 100%; height: auto } pre { overflow: auto }</style>
${picture}
<pre>${escaped(report)}</pre>
</html>
`;
}

function panel({ counts, limit, full, peak }: LimitRow, { mean, peak: peaks }: Curve, top: number): string[] {
  const bottom = top + 14 + PANEL;
  const y = (value: number): number => round(bottom - (value / Math.max(limit, peak, 1)) * PANEL);
  const area = (values: readonly number[]): string => {
    const x = (index: number): number => round(LEFT + (index / values.length) * INNER);
    return `M${LEFT} ${bottom}${values.map((value, index) => `V${y(value)}H${x(index + 1)}`).join("")}V${bottom}Z`;
  };
  return [
    text(LEFT, top + 8, cut(counts)),
    text(WIDTH - LEFT, top + 8, `limit ${limit}, most ${peak}, full ${percent(full)} of the time`, "note end"),
    `<path class="peak" d="${area(peaks)}"/>`,
    `<path class="mean" d="${area(mean)}"/>`,
    `<path class="limit" d="M${LEFT} ${y(limit)}H${WIDTH - LEFT}"/>`,
    `<path class="grid" d="M${LEFT} ${bottom}H${WIDTH - LEFT}"/>`,
  ];
}

/** A bar a domain and report, over a scale by powers of ten. */
function waits(reports: readonly Report[], top: number): { readonly lines: string[]; readonly height: number } {
  const [left, right] = [LEFT + 260, WIDTH - LEFT - 90];
  const longest = Math.max(SHORTEST * 10, ...reports.flatMap(({ domains }) => domains.map((row) => row.longest)));
  const x = (wait: Milliseconds): number =>
    round(left + (Math.log(Math.max(wait, SHORTEST) / SHORTEST) / Math.log(longest / SHORTEST)) * (right - left));
  const lines = [
    text(LEFT, top + 16, "Waits by domain", "title"),
    text(LEFT, top + 34, "up to the median, 90 % and 99 % of the requests, each lighter; line: the longest", "note"),
  ];
  let bottom = top + 64;
  const names = new Set(reports.flatMap(({ domains }) => domains.map(({ target }) => target.domain)));
  for (const name of names) {
    for (const report of reports) {
      const row = report.domains.find(({ target }) => target.domain === name);
      if (row === undefined) continue;
      const label = reports.length === 1 ? cut(name) : `${cut(name)} (${cut(report.policy)})`;
      lines.push(text(left - 8, bottom + 12, label, "end"));
      for (const part of ["p99", "p90", "median"] as const) {
        const width = round(x(row[part]) - left);
        lines.push(`<rect class="${part}" x="${left}" y="${bottom}" width="${width}" height="14"/>`);
      }
      lines.push(`<path class="longest" d="M${x(row.longest)} ${bottom}v14"/>`);
      lines.push(text(x(row.longest) + 6, bottom + 12, inTime(row.longest), "note"));
      bottom += 18;
    }
  }
  for (let wait = SHORTEST; wait <= longest; wait *= 10) {
    lines.push(
      `<path class="grid" d="M${x(wait)} ${top + 58}V${bottom + 4}"/>`,
      text(x(wait), top + 54, inTime(wait), "note"),
    );
  }
  return { lines, height: bottom + 20 };
}

const round = (value: number): number => Math.round(value * 10) / 10;
const escaped = (words: string): string => words.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/"/g, "&quot;");

function text(x: number, y: number, words: string, style = ""): string {
  return `<text x="${x}" y="${y}" class="${style}">${escaped(words)}</text>`;
}
