// Reads the text format of Prometheus, version 0.0.4, and is as strict as `promtool check metrics`: what a scraper would
// refuse, or would take for something else, is an error that names the line.

export type MetricType = "counter" | "gauge" | "histogram" | "summary" | "untyped";

export interface Series {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly name: string;
  readonly type: MetricType;
  readonly help: string;
  readonly series: Series[];
}

const NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*";
const HELP = new RegExp(String.raw`^# HELP (${NAME}) ((?:[^\\]|\\\\|\\n)*)$`);
const TYPE = new RegExp(`^# TYPE (${NAME}) (counter|gauge|histogram|summary|untyped)$`);
const SAMPLE = new RegExp(String.raw`^(${NAME})(?:\{(.*)\})? (\S+)$`);
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\\\|\\"|\\n)*)"(,|$)/y;

/** The families of an exposition by name. */
export function parseExposition(text: string): Map<string, Family> {
  const families = new Map<string, Family>();
  const seen = new Set<string>();
  let help: { readonly name: string; readonly text: string } | undefined;
  let family: Family | undefined;
  if (!text.endsWith("\n")) throw new Error("The last line does not end");

  for (const [index, line] of text.slice(0, -1).split("\n").entries()) {
    const fail = (problem: string): never => {
      throw new Error(`line ${index + 1}: ${problem}: ${line}`);
    };
    if (line === "") continue;
    if (line.startsWith("#")) {
      const { 1: helped, 2: said = "" } = HELP.exec(line) ?? [];
      if (helped !== undefined) {
        help = { name: helped, text: said };
        continue;
      }
      const { 1: name = "", 2: type } = TYPE.exec(line) ?? fail("neither HELP nor TYPE");
      if (help?.name !== name || help.text === "") fail("no HELP of the same name, or an empty one, before it");
      if (families.has(name)) fail("a second TYPE");
      if (type === "counter" && !name.endsWith("_total")) fail("a counter whose name does not end in _total");
      if (type !== "counter" && name.endsWith("_total")) fail("_total, but no counter");
      family = { name, type: type as MetricType, help: help?.text ?? "", series: [] };
      families.set(name, family);
      continue;
    }
    const { 1: name = "", 2: labelText = "", 3: number = "" } = SAMPLE.exec(line) ?? fail("no sample");
    const labels = parseLabels(labelText) ?? fail("labels that cannot be read");
    const value = parseNumber(number) ?? fail("no number");
    const base = family?.type === "histogram" ? name.replace(/_(bucket|sum|count)$/, "") : name;
    if (family === undefined || base !== family.name) return fail("apart from its family");
    if (family.type === "counter" && !(value >= 0)) fail("a counter below 0");
    const sorted = Object.entries(labels).sort(([one], [other]) => (one < other ? -1 : 1));
    const id = JSON.stringify([name, sorted]);
    if (seen.has(id)) fail("the same series twice");
    seen.add(id);
    family.series.push({ name, labels, value });
  }
  for (const { name, type, series } of families.values()) if (type === "histogram") checkHistogram(name, series);
  return families;
}

function parseLabels(text: string): Record<string, string> | undefined {
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < text.length) {
    const found = LABEL.exec(text);
    if (found === null || Object.hasOwn(labels, found[1] ?? "")) return undefined;
    const escapes: Readonly<Record<string, string>> = { "\\\\": "\\", '\\"': '"', "\\n": "\n" };
    labels[found[1] ?? ""] = (found[2] ?? "").replace(/\\./g, (escaped) => escapes[escaped] ?? "");
  }
  return labels;
}

function parseNumber(text: string): number | undefined {
  const infinite = { "+Inf": Infinity, "-Inf": -Infinity, NaN: Number.NaN }[text];
  if (infinite !== undefined) return infinite;
  return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(text) ? Number(text) : undefined;
}

/** Of the histograms here, which have no labels: buckets that add up, in order, with the last one for everything. */
function checkHistogram(name: string, series: readonly Series[]): void {
  const buckets = series.filter((one) => one.name === `${name}_bucket`);
  const ends = buckets.map(({ labels }) => parseNumber(labels["le"] ?? "") ?? Number.NaN);
  const counts = buckets.map(({ value }) => value);
  const rises = (numbers: readonly number[], strictly: boolean) =>
    numbers.every((number, index) => {
      const before = numbers[index - 1];
      return before === undefined || (strictly ? number > before : number >= before);
    });
  if (!rises(ends, true) || !rises(counts, false)) throw new Error(`${name}: its buckets do not rise`);
  const count = series.find((one) => one.name === `${name}_count`)?.value;
  if (ends.at(-1) !== Infinity || counts.at(-1) !== count) throw new Error(`${name}: no bucket for everything`);
  if (!series.some((one) => one.name === `${name}_sum`)) throw new Error(`${name}: no sum`);
}

/** The value of one series; undefined if it is not there. */
export function numberOf(
  families: ReadonlyMap<string, Family>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const family = families.get(name) ?? families.get(name.replace(/_(bucket|sum|count)$/, ""));
  return family?.series.find((one) => one.name === name && sameLabels(one.labels, labels))?.value;
}

function sameLabels(one: Readonly<Record<string, string>>, other: Readonly<Record<string, string>>): boolean {
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => one[name] === other[name]);
}
