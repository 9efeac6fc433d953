// What the README says of the metrics: its table has all of them, and its alerts ask for series that there are.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import promClient, { Registry } from "prom-client";
import { beforeAll, describe, expect, it } from "vitest";
import { prometheusMetrics } from "../../src/metrics.js";
import { open } from "../table/open.js";
import { type Family, parseExposition, type Series } from "./exposition.js";

const README = readFileSync(join(import.meta.dirname, "..", "..", "README.md"), "utf8");
const PREFIX = "outbound_limiter_";

/** What stands behind a comment, up to the next heading. */
function behind(comment: string): string {
  const [, text = ""] = README.split(`<!-- ${comment} -->\n`, 2);
  return text.split("\n## ", 1)[0] ?? "";
}

/** The series a PromQL expression selects: a name, and the labels it must have. */
function selectorsIn(expression: string): { readonly name: string; readonly labels: Record<string, string> }[] {
  return Array.from(expression.matchAll(/outbound_limiter_\w+(?:\{([^}]*)\})?/g), ({ 0: all, 1: inner = "" }) => ({
    name: all.replace(/\{.*/, ""),
    labels: Object.fromEntries(
      Array.from(inner.matchAll(/(\w+)="([^"]*)"/g), ({ 1: label = "", 2: value = "" }) => [label, value]),
    ),
  }));
}

let families: ReadonlyMap<string, Family>;
let series: readonly Series[];

beforeAll(async () => {
  const { limiter } = open("max_outbound_connections = 1");
  const registry = new Registry();
  prometheusMetrics(limiter, promClient, { registry });
  limiter.tryAcquire({ domain: "gmail.com" });
  families = parseExposition(await registry.metrics());
  series = [...families.values()].flatMap((family) => family.series);
});

describe("the table of metrics", () => {
  it("has every metric, with its labels, and no other", () => {
    const rows = behind("metrics").match(/^\| `.*\|$/gm) ?? [];
    const told = rows.slice(1).flatMap((row) => {
      const [names = "", labels = ""] = row.split("|").slice(1);
      const words = (cell: string) => Array.from(cell.matchAll(/`(\w+)`/g), ({ 1: word = "" }) => word);
      return words(names).map((name) => `${PREFIX}${name}(${words(labels).join(", ")})`);
    });
    const exposed = [...families.values()].map(({ name, type, series: [first] }) => {
      const labels = Object.keys(first?.labels ?? {}).filter((label) => type !== "histogram" || label !== "le");
      return `${name}(${labels.join(", ")})`;
    });
    expect(told.sort()).toEqual(exposed.sort());
  });
});

describe("the alerts", () => {
  const expressions = [
    ...Array.from(behind("alerts").matchAll(/^ +expr: (.*)$/gm), ({ 1: expression = "" }) => expression),
    ...Array.from(behind("alerts").matchAll(/`(topk\(.*?\))`/g), ({ 1: expression = "" }) => expression),
  ];

  it("are there", () => {
    expect(expressions.length).toBeGreaterThanOrEqual(4);
  });

  it.each(expressions)("ask for series that there are: %s", (expression) => {
    const selectors = selectorsIn(expression);
    expect(selectors).not.toEqual([]);
    for (const { name, labels } of selectors) {
      expect(series).toContainEqual(expect.objectContaining({ name, labels: expect.objectContaining(labels) }));
    }
  });
});
