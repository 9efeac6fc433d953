// outbound-limiter simulate: what it takes, what it prints and writes, and its exit status.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { builtCommand } from "../cli/built.js";

const command = builtCommand();
const ran = (args: readonly string[], input = "") => command.run(["simulate", ...args], input);

const [policy, raised, traffic] = ["limits.conf", "raised.conf", "traffic.txt"] as const;
beforeAll(() => {
  command.write(policy, "max_outbound_connections = 2\n");
  command.write(raised, "max_outbound_connections = 3\n");
  command.write(traffic, "a.example count=3 duration=10s\n");
});

describe("outbound-limiter simulate", () => {
  it("prints what happened, and how fast it was played", async () => {
    const { status, stdout, stderr } = await ran([policy, "--traffic", traffic]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toContain("3 requests in 20 s, 3 admitted (0.1 a second)");
    expect(stdout).toMatch(/binding default to a\.example +2 +2 +1\.5 +50 % +1 +10 s {2}set at limits\.conf:1:1/);
    expect(stdout).toMatch(/Played in [\d.]+ s, [\d,]+ times as fast as real: [4-9] events/);
  });

  it("--json: the report as data", async () => {
    const { status, stdout } = await ran([policy, "--traffic", "-", "--seed=7", "--json"], "a.example duration=1s");
    expect(status).toBe(0);
    const { runs, seed, speed } = JSON.parse(stdout);
    expect(seed).toBe(7);
    expect(Object.keys(speed)).toEqual(["seconds", "events", "eventsPerSecond", "timesReal"]);
    expect(runs).toMatchObject([{ policy, span: 1000, asked: 1, admitted: 1, starved: [] }]);
    expect(runs[0].limits[0].setAt).toMatchObject({ line: 1 });
    expect(runs[0].limits[1].setAt).toBeNull();
  });

  it("--against: both policies in the same rows", async () => {
    const { stdout } = await ran([policy, "--against", raised, "--traffic", traffic]);
    expect(stdout).toMatch(/a\.example +2 → 3 +2 → 3/);
    const { runs } = JSON.parse((await ran([policy, "--against", raised, "--traffic", traffic, "--json"])).stdout);
    expect(runs.map(({ longest }: { longest: number }) => longest)).toEqual([10_000, 0]);
  });

  it("--for, --timeout and --max-waiting are those of the run", async () => {
    const all = async (...args: string[]) =>
      JSON.parse((await ran([policy, "--traffic", traffic, "--json", ...args])).stdout).runs[0];
    expect(await all("--for", "5s")).toMatchObject({ admitted: 2, stillWaiting: 1, longest: 5_000 });
    expect(await all("--timeout", "3s")).toMatchObject({ admitted: 2, timedOut: 1, longest: 3_000 });
    expect(await all("--max-waiting", "0")).toMatchObject({ admitted: 2, refused: 1, longest: 0 });
  });

  it("a rate without an end goes on for an hour", async () => {
    const { stdout } = await ran([policy, "--traffic", "-"], "a.example rate=1/m duration=1s");
    expect(stdout).toContain("requests in 60 min");
  });

  it("--svg and --html: pictures to look at, of a run of no length, too", async () => {
    const [svg, html] = ["out.svg", "out.html"] as const;
    const { status } = await ran([policy, "--traffic", traffic, "--svg", svg, "--html", html]);
    expect(status).toBe(0);
    const none = await ran([policy, "--traffic", "-", "--svg", "none.svg"], "a.example duration=0s");
    expect(none).toMatchObject({ status: 0, stderr: "" });
    expect(readFileSync(join(command.folder, "none.svg"), "utf8")).not.toMatch(/NaN|Infinity|undefined/);
    expect(readFileSync(join(command.folder, svg), "utf8")).toMatch(
      /^<svg xmlns="[^"]*" viewBox="0 0 860 \d+".*to a\.example.*<\/svg>\n$/s,
    );
    expect(readFileSync(join(command.folder, html), "utf8")).toMatch(
      /^<!doctype html>.*<svg .*<pre>.*3 requests in 20 s/s,
    );
  });

  it.each<[string, string[], RegExp]>([
    ["no traffic", [policy], /--traffic FILE is missing/],
    ["no policy", ["--traffic", traffic], /FILE is missing/],
    ["no time", [policy, "--traffic", traffic, "--for", "soon"], /--for is a time, as in 90s or 1h, not soon/],
    ["no number", [policy, "--traffic", traffic, "--seed", "x"], /--seed is a whole number from 0/],
    ["no such option", [policy, "--trafic", traffic], /did you mean --traffic\?/],
    ["a missing file", [policy, "--traffic", "gone"], /gone: cannot read it: no such file/],
    ["one stdin for two", ["-", "--traffic", "-"], /standard input/],
    ["a folder to write", [policy, "--traffic", traffic, "--svg", "."], /cannot write it/],
  ])("%s is trouble", async (_, args, message) => {
    const { status, stdout, stderr } = await ran(args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toMatch(message);
  });

  it("mistakes in the traffic are shown as those in a policy, all at once", async () => {
    command.write("wrong.txt", "a.example\nb.example duraton=1s\n");
    const { status, stderr } = await ran([policy, "--traffic", "wrong.txt"]);
    expect(status).toBe(2);
    expect(stderr).toContain("wrong.txt:1:1: line without `duration`");
    expect(stderr).toContain(
      "wrong.txt:2:11: unknown key `duraton`\n\n  2 | b.example duraton=1s\n    |           ^^^^^^^",
    );
  });
});
