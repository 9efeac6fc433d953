// The reader of the exposition itself: each of its rules is broken once, or it could not fail.
import { describe, expect, it } from "vitest";
import { numberOf, parseExposition } from "./exposition.js";

const gauge = (...lines: string[]) => ["# HELP a An a.", "# TYPE a gauge", ...lines, ""].join("\n");
const histogram = (...lines: string[]) => ["# HELP h An h.", "# TYPE h histogram", ...lines, ""].join("\n");

describe("parseExposition", () => {
  it("reads names, labels with their escapes, and numbers", () => {
    const families = parseExposition(
      gauge(String.raw`a{path="c:\\\"x\"",lines="1\n2"} -1.5e3`, 'a{path=""} +Inf') +
        '\n# HELP b_total A b.\n# TYPE b_total counter\nb_total 7\n# HELP h An h.\n# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 3\nh_sum 9\nh_count 3\n',
    );
    expect([...families.values()].map(({ name, type, help }) => [name, type, help])).toEqual([
      ["a", "gauge", "An a."],
      ["b_total", "counter", "A b."],
      ["h", "histogram", "An h."],
    ]);
    expect(numberOf(families, "a", { lines: "1\n2", path: 'c:\\"x"' })).toBe(-1500);
    expect(numberOf(families, "a", { path: "" })).toBe(Infinity);
    expect(numberOf(families, "a")).toBeUndefined();
    expect(numberOf(families, "b_total")).toBe(7);
    expect(numberOf(families, "h_bucket", { le: "1" })).toBe(2);
  });

  it.each([
    ["a last line without its end", "# HELP a An a."],
    ["another comment", "# a\n"],
    ["a TYPE without HELP", "# TYPE a gauge\n"],
    ["an empty HELP", "# HELP a \n# TYPE a gauge\n"],
    ["a type that is none", "# HELP a An a.\n# TYPE a info\n"],
    ["a second TYPE", gauge("# HELP a An a.", "# TYPE a gauge")],
    ["a counter without _total", "# HELP a An a.\n# TYPE a counter\n"],
    ["a gauge with _total", "# HELP a_total An a.\n# TYPE a_total gauge\n"],
    ["a sample without its family", "a 1\n"],
    ["a sample of another family", gauge("b 1")],
    ["a name that is none", gauge("a-b 1")],
    ["a number that is none", gauge("a 1,5")],
    ["a number as prom-client writes NaN", gauge("a Nan")],
    ["a label without quotes", gauge("a{b=1} 1")],
    ["a label with a dot", gauge('a{b.c="1"} 1')],
    ["a label twice", gauge('a{b="1",b="2"} 1')],
    ["an escape that is none", gauge(String.raw`a{b="\x"} 1`)],
    ["a quote that is not escaped", gauge('a{b="""} 1')],
    ["a series twice", gauge('a{b="1",c="2"} 1', 'a{c="2",b="1"} 1')],
    ["a counter below 0", "# HELP a_total An a.\n# TYPE a_total counter\na_total -1\n"],
    ["buckets that do not add up", histogram('h_bucket{le="1"} 3', 'h_bucket{le="+Inf"} 2', "h_sum 1", "h_count 2")],
    ["buckets out of order", histogram('h_bucket{le="+Inf"} 2', 'h_bucket{le="1"} 2', "h_sum 1", "h_count 2")],
    ["no last bucket", histogram('h_bucket{le="1"} 2', "h_sum 1", "h_count 2")],
    ["a count that is not that of the last bucket", histogram('h_bucket{le="+Inf"} 2', "h_sum 1", "h_count 3")],
    ["no sum", histogram('h_bucket{le="+Inf"} 2', "h_count 2")],
  ])("refuses %s", (_, text) => {
    expect(() => parseExposition(text)).toThrow(/line \d+: |h: |does not end/);
  });
});
