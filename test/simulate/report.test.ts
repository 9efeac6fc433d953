// The report as data, as text, as a picture and as a page: bounded, and safe whatever the names are.

import { describe, expect, it } from "vitest";
import { parsePolicy } from "../../src/index.js";
import { htmlOf, svgOf } from "../../src/simulate/picture.js";
import { reportOf } from "../../src/simulate/report.js";
import { Waits } from "../../src/simulate/tally.js";
import { inTime, textOf } from "../../src/simulate/text.js";
import { play, report } from "./playing.js";

/** A report of two policies for one traffic, as text and as a page. */
async function compared(policies: readonly string[], traffic: string, top = 20) {
  const runs = await Promise.all(policies.map((policy) => play(policy, traffic)));
  const reports = runs.map((run, index) =>
    reportOf(run, parsePolicy(policies[index] ?? "", { source: `${index}.conf` }), top),
  );
  const curves = new Set(reports.flatMap(({ limits }) => limits.map(({ key }) => key)));
  const end = Math.max(...runs.map(({ span }) => span));
  const drawn = await Promise.all(policies.map((policy) => play(policy, traffic, { end, curves })));
  const svg = svgOf("title", reports, drawn);
  return { reports, text: textOf(reports), svg, html: htmlOf("title", svg, textOf(reports)) };
}

describe("reportOf", () => {
  it("puts the costliest limit and the longest waits first, and says how many it left out", async () => {
    const traffic = Array.from({ length: 50 }, (_, n) => `d${n}.example count=${n + 1} duration=1s`).join("\n");
    const { limits, domains, count } = await report("max_outbound_connections = 1", traffic, { top: 3 });
    expect(domains.map(({ target }) => target.domain)).toEqual(["d49.example", "d48.example", "d47.example"]);
    expect(limits.map(({ counts }) => counts)).toEqual(
      ["d49", "d48", "d47"].map((name) => `connections from binding default to ${name}.example`),
    );
    // The fifty of the domains and the one of the server.
    expect(count).toEqual({ limits: 51, domains: 50, starved: 0 });
  });

  it("adds up the bindings of a domain", async () => {
    const traffic = "a.example binding=x count=2 duration=1s\na.example binding=y count=3 duration=1s";
    const { domains } = await report("max_outbound_connections = 1", traffic);
    expect(domains).toMatchObject([
      { target: { domain: "a.example" }, asked: 5, delayed: 3, waited: 4_000, longest: 2_000 },
    ]);
  });
});

describe("textOf", () => {
  it("is a table for each question", async () => {
    const { text } = await compared(
      ["max_outbound_connections = 2\nserver_max_outbound_connections = -1"],
      "a.example count=3 duration=10s",
    );
    expect(text).toMatchInlineSnapshot(`
      "0.conf: 3 requests in 20 s, 3 admitted (0.1 a second), 0 timed out, 0 refused, 0 waiting at the end

      limit on                                       limit  most  mean  full  held up  for, in all
      connections from binding default to a.example      2     2   1.5  50 %        1         10 s  set at 0.conf:1:1

      domain     asked  admitted  waited  median  90 %  99 %  longest
      a.example      3         3       1    0 ms  10 s  10 s     10 s

      Nobody was left out.
      "
    `);
  });

  it("shows what another policy changes as before → after, and what it does not change once", async () => {
    const { text } = await compared(
      ["max_outbound_connections = 1", "max_outbound_connections = 2"],
      "a.example count=2 duration=10s\nb.example duration=1s",
    );
    expect(text).toMatch(/to a\.example +1 → 2 +1 → 2 +1\.0 → 2\.0/);
    expect(text).toMatch(/a\.example +2 +2 +1 → 0 +0 ms +10 s → 0 ms/);
  });

  it("names who was never admitted", async () => {
    const { text } = await compared(['domain "a.example" { max_outbound_connections = 0 }'], "a.example duration=1s");
    expect(text).toMatch(/never admitted .*\na\.example via default +1 /);
  });
});

describe("what a hostile log makes of it", () => {
  const hostile = ["<script>alert(1)</script>.example", '"><img/src=x.example', "&lt;b&gt;.example", "a".repeat(250)];

  it("takes no name for markup, and cuts long ones", async () => {
    const traffic = hostile.map((domain) => `${domain} binding=<b>${"b".repeat(500)} count=3 duration=1s`);
    const { svg, html, text } = await compared(["max_outbound_connections = 1"], traffic.join("\n"));
    for (const page of [svg, html]) {
      expect(page).not.toMatch(/<(script|img|b)\b/);
      expect(page).toContain("&lt;script");
      expect(page).toContain("&amp;lt;b");
    }
    expect(Math.max(...text.split("\n").map((line) => line.length))).toBeLessThan(250);
  });

  it("is a page of its own: it asks for nothing from outside", async () => {
    const { html } = await compared(["max_outbound_connections = 1", ""], "a.example count=3 duration=1s");
    const addresses = html.match(/\w+:\/\/[^"\s]*/g) ?? [];
    expect(new Set(addresses)).toEqual(new Set(["http://www.w3.org/2000/svg"]));
    expect(html).not.toMatch(/<(link|script|img|iframe)|@import|url\(|\b(href|src)=/);
  });

  it("is no longer for many domains than for as many as it shows", async () => {
    const traffic = Array.from({ length: 1_000 }, (_, n) => `d${n}.example count=2 duration=1s`).join("\n");
    const { text, svg } = await compared(["max_outbound_connections = 1"], traffic, 5);
    expect(text.split("\n").length).toBeLessThan(30);
    expect(text).toContain("… and 995 more");
    expect(svg.length).toBeLessThan(50_000);
  });
});

describe("Waits", () => {
  it("has exact ranks, and values to three digits", () => {
    const waits = new Waits();
    for (let wait = 0; wait < 100_000; wait++) waits.add(wait);
    expect([0, 0.5, 0.9, 0.99, 1].map((part) => waits.quantile(part))).toEqual([0, 50_000, 90_000, 99_000, 99_999]);
    expect(waits.delayed).toBe(99_999);
  });

  it("of nothing is nothing", () => expect(new Waits().quantile(0.5)).toBe(0));
});

describe("inTime", () => {
  it.each([
    [0, "0 ms"],
    [999, "999 ms"],
    [1_500, "1.5 s"],
    [119_000, "119 s"],
    [120_000, "2 min"],
    [7_200_000, "2 h"],
  ])("%d ms is %s", (time, words) => expect(inTime(time)).toBe(words));
});
