// The README's blocks, run as a reader would run them: programs with what they print, policies, and no other language.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadPolicy, parsePolicy } from "../src/index.js";

const ROOT = join(import.meta.dirname, "..");
const TEXT = readFileSync(join(ROOT, "README.md"), "utf8");

interface Block {
  readonly language: string;
  readonly text: string;
  readonly line: number;
  /** Of a program: the `text` block right behind it, which is what it prints. */
  readonly output: string | undefined;
}

function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = [];
  const fence = /^```(\w*)\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?/gms;
  for (const { 1: language = "", 2: text = "", 3: output, index } of markdown.matchAll(fence)) {
    const line = markdown.slice(0, index).split("\n").length;
    blocks.push({ language, text, line, output: language === "js" ? output : undefined });
  }
  return blocks;
}

const blocks = blocksOf(TEXT);
const scratch = mkdtempSync(join(tmpdir(), "outbound-limiter-readme-"));

beforeAll(() => {
  const modules = join(scratch, "node_modules");
  const own = join(modules, "outbound-limiter");
  mkdirSync(own, { recursive: true });
  writeFileSync(join(own, "package.json"), JSON.stringify({ type: "module", exports: "./src/index.ts" }));
  symlinkSync(join(ROOT, "src"), join(own, "src"), "junction");
  symlinkSync(join(ROOT, "node_modules", "nodemailer"), join(modules, "nodemailer"), "junction");
});

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Runs a program and gives what it printed. */
function run(program: string, name: string): string {
  const file = join(scratch, name);
  writeFileSync(file, program);
  const tsx = pathToFileURL(join(ROOT, "node_modules", "tsx", "dist", "esm", "index.mjs")).href;
  return execFileSync(process.execPath, ["--import", tsx, file], { cwd: scratch, encoding: "utf8", timeout: 60_000 });
}

/** Waits differ from run to run. */
const withoutTimes = (text: string): string => text.replace(/oldest \d+\.\d s/g, "oldest … s");

describe("README", () => {
  it.each(blocks.filter(({ language }) => language === "js"))(
    "the program at line $line runs, and prints what stands behind it",
    { timeout: 60_000 },
    ({ text, line, output }) => {
      const printed = run(text, `line-${line}.mjs`);
      expect(withoutTimes(printed)).toBe(withoutTimes(output ?? ""));
    },
  );

  it.each(blocks.filter(({ language }) => language === "conf"))(
    "the policy at line $line parses",
    async ({ text, line }) => {
      expect(parsePolicy(text).warnings).toEqual([]);
      const file = join(scratch, `line-${line}.conf`);
      writeFileSync(file, text);
      expect(String(await loadPolicy(file))).toBe(String(parsePolicy(text)));
    },
  );

  it("has programs, policies and pictures, and no block of another kind", () => {
    const languages = blocks.map(({ language }) => language);
    expect([...new Set(languages)].sort()).toEqual(["conf", "js", "sh", "text"]);
    expect(languages.filter((language) => language === "js")).toHaveLength(TEXT.match(/^```js$/gm)?.length ?? 0);
  });

  it("names the two commands that do all the set-up", () => {
    expect(TEXT).toContain("`npm ci && npm run demo`");
    expect(TEXT).toContain("`npm ci && npm test`");
  });
});
