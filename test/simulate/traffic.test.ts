// parseTraffic: what a line means, and every mistake at the words that make it.

import { describe, expect, it } from "vitest";
import { parsePolicy } from "../../src/index.js";
import { type Flow, parseTraffic, timeOf } from "../../src/simulate/traffic.js";
import { issuesBy, marked, underlined } from "../policy/reading.js";

const policy = parsePolicy('binding_group "bulk" { binding "bulk-1" { } }');
const read = (text: string): readonly Flow[] => parseTraffic(text, "traffic.txt", [policy]).flows;
const issuesOf = (text: string) => issuesBy(() => read(text));
const half = () => 0.5;

describe("parseTraffic", () => {
  it("reads a rate, a burst and a single connection", () => {
    const [burst, rate, single] = read(`
      # a comment
      gmail.com rate=20/s duration=~2s start=1m end=1h  # until the hour
      yahoo.com count=500 duration=1.5s
      orange.fr start=90s duration=250ms`);
    expect(burst).toMatchObject({ target: { domain: "yahoo.com" }, start: 0, end: Infinity, count: 500, gap: 0 });
    expect(rate).toMatchObject({ start: 60_000, end: 3_600_000, count: Infinity, gap: 50 });
    expect(single).toMatchObject({ start: 90_000, end: Infinity, count: 1, gap: 0 });
    expect(burst?.hold(half)).toBe(1500);
    expect(single?.hold(half)).toBe(250);
    expect(rate?.hold(half)).toBeCloseTo(2000 * Math.LN2);
  });

  it.each([
    ["20/s", 50],
    ["6/m", 10_000],
    ["1000/h", 3_600],
    ["0.5/d", 172_800_000],
  ])("rate=%s: a request every %d ms in the mean", (rate, gap) => {
    expect(read(`a.example rate=${rate} duration=1s`)[0]?.gap).toBe(gap);
  });

  it("takes a rate with a count as at most so many", () => {
    expect(read("a.example rate=1/s count=9 duration=1s")[0]).toMatchObject({ gap: 1000, count: 9 });
  });

  it("reads targets in their normal form, one object for each", () => {
    const flows = read(`Gmail.COM. binding=bulk-1 group=bulk host=MX.example duration=1s
      gmail.com binding=bulk-1 group=bulk host=mx.example duration=2s\r
      __proto__ duration=1s`);
    expect(flows[0]?.target).toEqual({
      domain: "gmail.com",
      binding: "bulk-1",
      bindingGroup: "bulk",
      host: "mx.example",
    });
    expect(flows[1]?.target).toBe(flows[0]?.target);
    expect(flows[2]?.target.domain).toBe("__proto__");
  });

  it("begins at the earliest start, so a log may count from any moment on, in any order", () => {
    const flows = read(`b.example start=1896082202.25s duration=1s
      c.example start=1896082260s end=1896082320s rate=1/s duration=1s
      a.example start=1896082200s duration=1s`);
    expect(flows.map(({ target, start, end }) => [target.domain, start, end])).toEqual([
      ["a.example", 0, Infinity],
      ["b.example", 2_250, Infinity],
      ["c.example", 60_000, 120_000],
    ]);
  });

  it.each([
    ["a.example «duraton»=1s", "unknown-option", "did you mean `duration`?"],
    ["a.example duration=1s «x»=1", "unknown-option", "the keys are host, binding"],
    ["a.example duration=1s «rate»", "syntax", undefined],
    ["a.example duration=1s «duration=2s»", "duplicate", undefined],
    ["«a.example» rate=1/s", "syntax", "250ms, 1.5s, 10m"],
    ["a.example duration=«2»", "bad-value", "~2s is 2s in the mean"],
    ["a.example duration=«~»", "bad-value", "~2s is 2s in the mean"],
    ["a.example duration=1s rate=«20»", "bad-value", "as in 20/s"],
    ["a.example duration=1s rate=«0/s»", "bad-value", "as in 20/s"],
    ["a.example duration=1s count=«0»", "bad-value", "a whole number from 1"],
    ["a.example duration=1s start=«noon»", "bad-value", "since any moment, as is 1896082200.25s"],
    ["«a.example» duration=1s end=1m", "bad-value", undefined],
    ["«a.example» duration=1s rate=1/s start=2m end=1m", "bad-value", undefined],
    ["«a..example» duration=1s", "bad-value", "a domain or an address"],
    ["a.example duration=1s host=«.»", "bad-value", "a host or an address"],
    ["a.example duration=1s binding=«a:b»", "bad-value", "without white space and colons"],
    ["a.example duration=1s binding=«»", "bad-value", "without white space and colons"],
    ["«a.example» duration=1s binding=bulk-1 group=other", "bad-value", undefined],
  ])("finds the mistake in %s", (written, rule, help) => {
    const { text, piece, line, column } = marked(`# first\n\tok.example duration=1s\n\t${written}\n`);
    const issues = issuesOf(text);
    expect(issues).toMatchObject([{ rule, source: "traffic.txt", line, column }]);
    expect(issues[0]?.help ?? "").toContain(help ?? "");
    if (piece !== "") expect(underlined(issues[0]?.excerpt ?? "")).toBe(piece);
  });

  it("reports all mistakes at once, in order, and at most 50", () => {
    const issues = issuesOf("a..b x duration=1s\nok.example duration=1s\nb rate=1 duration=1s\nc end=1m\n");
    expect(issues.map(({ line, column }) => [line, column])).toEqual([
      [1, 1],
      [1, 6],
      [3, 8],
      [4, 1],
    ]);
    expect(issuesOf("a..b duration=1s\n".repeat(1000))).toHaveLength(50);
  });

  it.each(["", "\n # nothing\n"])("does not take %j for traffic", (text) => {
    expect(issuesOf(text)).toMatchObject([{ message: "no line asks for a connection" }]);
  });

  it("says a mistake in a line of any length on one line, and shows no control characters", () => {
    const [issue] = issuesOf(`a.example duration=1s ${"\u001b[2J".repeat(100_000)}`);
    expect(issue?.message.length).toBeLessThan(500);
    expect(`${issue?.message}${issue?.excerpt}`).not.toContain("\u001b");
  });
});

describe("timeOf", () => {
  it.each([
    ["250ms", 250],
    ["1.5s", 1_500],
    ["10m", 600_000],
    ["1h", 3_600_000],
    ["1d", 86_400_000],
    ["0s", 0],
  ])("%s", (text, time) => expect(timeOf(text)).toBe(time));

  it.each(["", "1", "s", "-1s", "1 s", "1e3s", "1y", "1.s", "Infinitys"])("%j is no time", (text) =>
    expect(timeOf(text)).toBeUndefined(),
  );
});
