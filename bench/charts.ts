// Charts as plain SVG, readable in light and dark: every bar and line carries its own name and number.

interface Common {
  readonly file: string;
  readonly title: string;
  readonly note: string;
  readonly unit: string;
}

export interface BarGroup {
  readonly name: string;
  readonly bars: readonly { readonly name: string; readonly value: number }[];
}

/** Groups of bars; over an even scale, or over powers of ten from 1 up. */
interface Bars extends Common {
  readonly kind: "bars";
  readonly scale: "even" | "powers";
  readonly groups: readonly BarGroup[];
}

/** Lines over two scales of powers of ten. */
interface Lines extends Common {
  readonly kind: "lines";
  /** What the numbers below are. */
  readonly across: string;
  readonly lines: readonly { readonly name: string; readonly points: readonly (readonly [x: number, y: number])[] }[];
}

export type Chart = Bars | Lines;

const WIDTH = 760;
const TOP = 66;
const OURS = "outbound-limiter";

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 16px }
  .note { fill: #59636e; font-size: 12px } .group, .name.ours { font-weight: 600 }
  .ground { fill: #ffffff } .grid { stroke: #d1d9e0 } .bar { fill: #8c959f } .bar.ours { fill: #0969da }
  .line { fill: none; stroke-width: 2; stroke: #8c959f } .line.ours { stroke: #0969da; stroke-width: 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .note { fill: #9198a1 } .ground { fill: #0d1117 } .grid { stroke: #3d444d }
    .bar { fill: #656c76 } .bar.ours { fill: #4493f8 } .line { stroke: #656c76 } .line.ours { stroke: #4493f8 }
  }`;

export function svg(chart: Chart): string {
  const { body, height } = chart.kind === "bars" ? bars(chart) : lines(chart);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" role="img" aria-label="${escaped(chart.title)}">`,
    `<style>${STYLE}\n</style>`,
    `<rect class="ground" width="${WIDTH}" height="${height}" rx="6"/>`,
    text(20, 28, chart.title, "title"),
    text(20, 47, chart.note, "note"),
    ...body,
    "</svg>\n",
  ].join("\n");
}

interface Drawing {
  readonly body: readonly string[];
  readonly height: number;
}

function bars({ groups, unit, scale }: Bars): Drawing {
  const [left, right, row] = [190, 90, 20];
  const most = Math.max(...groups.flatMap((group) => group.bars.map(({ value }) => value)));
  const part = (value: number): number =>
    scale === "even" ? value / most : Math.log10(Math.max(1, value)) / Math.log10(most);
  const across = (value: number): number => part(value) * (WIDTH - left - right);
  const body: string[] = [];
  let y = TOP;
  for (const group of groups) {
    body.push(text(20, y + 15, group.name, "group"));
    y += 24;
    for (const { name, value } of group.bars) {
      const width = Math.max(3, across(value));
      const ours = name === OURS ? " ours" : "";
      body.push(
        text(left - 8, y + 14, name, `name${ours}`, "end"),
        `<rect class="bar${ours}" x="${left}" y="${y + 2}" width="${round(width)}" height="${row - 5}" rx="2"/>`,
        text(left + width + 6, y + 14, `${shown(value)} ${unit}`, `name${ours}`),
      );
      y += row;
    }
    y += 12;
  }
  const grid = scale === "even" ? [] : powers(1, most).map((value) => upright(left + across(value), TOP, y - 8));
  const labels =
    scale === "even"
      ? []
      : powers(1, most).map((value) => text(left + across(value), y + 6, `${shown(value)} ${unit}`, "note", "middle"));
  return { body: [...grid, ...body, ...labels], height: y + (labels.length > 0 ? 20 : 4) };
}

function lines({ lines: all, unit, across }: Lines): Drawing {
  const [left, right, bottom] = [70, 240, 350];
  const points = all.flatMap((line) => line.points);
  const [lowX, highX] = decades(points.map(([x]) => x));
  const [lowY, highY] = decades(points.map(([, y]) => y));
  const part = (value: number, low: number, high: number): number => Math.log10(value / low) / Math.log10(high / low);
  const atX = (x: number): number => round(left + part(x, lowX, highX) * (WIDTH - left - right));
  const atY = (y: number): number => round(bottom - part(y, lowY, highY) * (bottom - TOP));
  const body: string[] = [];
  for (const x of powers(lowX, highX))
    body.push(upright(atX(x), TOP, bottom), text(atX(x), bottom + 20, x.toLocaleString("en"), "note", "middle"));
  for (const y of powers(lowY, highY))
    body.push(
      `<path class="grid" d="M${left} ${atY(y)}H${WIDTH - right}"/>`,
      text(left - 8, atY(y) + 4, `${shown(y)} ${unit}`, "note", "end"),
    );
  for (const { name, points: own } of all) {
    const [x, y] = own.at(-1) ?? [lowX, lowY];
    const ours = name === OURS ? " ours" : "";
    const path = own.map(([px, py]) => `${atX(px)},${atY(py)}`).join(" ");
    body.push(
      `<polyline class="line${ours}" points="${path}"/>`,
      text(atX(x) + 8, atY(y) + 4, `${name}: ${shown(y)} ${unit}`, `name${ours}`),
    );
  }
  body.push(text((left + WIDTH - right) / 2, bottom + 40, across, "note", "middle"));
  return { body, height: bottom + 56 };
}

const upright = (x: number, top: number, bottom: number): string =>
  `<path class="grid" d="M${round(x)} ${top}V${bottom}"/>`;

/** The powers of ten around all values. */
function decades(values: readonly number[]): [number, number] {
  const low = 10 ** Math.floor(Math.log10(Math.min(...values)) + 1e-9);
  return [low, Math.max(low * 10, 10 ** Math.ceil(Math.log10(Math.max(...values)) - 1e-9))];
}

function powers(low: number, high: number): number[] {
  const all: number[] = [];
  for (let value = low; value <= high * 1.001; value *= 10) all.push(value);
  return all;
}

/** A number with as many digits as one reads. */
export function shown(value: number): string {
  if (!Number.isFinite(value)) return "never";
  if (value !== 0 && Math.abs(value) < 0.01) return value.toPrecision(1);
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

const round = (value: number): number => Math.round(value * 10) / 10;
const escaped = (words: string): string => words.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/"/g, "&quot;");

function text(x: number, y: number, words: string, style: string, anchor = "start"): string {
  return `<text x="${round(x)}" y="${round(y)}" class="${style}" text-anchor="${anchor}">${escaped(words)}</text>`;
}
