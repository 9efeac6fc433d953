// Reads the sources and holds them to the rules of their layout: import direction, purity, size, who may be here at all.

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join, posix, relative, sep } from "node:path";
import { type Comment, parseSync, visitorKeys } from "oxc-parser";
import { describe, expect, it } from "vitest";

// ── The rules as data ────────────────────────────────────────────────────────────────────────────

const ROOT = join(import.meta.dirname, "..");

/** All lines, as `wc -l` counts them: what a reader has to scroll through. */
const MOST_LINES_OF_A_FILE = 400;
/** Lines that hold code; blank lines and comments are free, or documenting would be punished. */
const MOST_CODE: readonly { readonly of: string; readonly files: RegExp; readonly lines: number }[] = [
  { of: "the command", files: /^src\/(cli|simulate)/, lines: 1600 },
  { of: "the metrics", files: /^src\/metrics/, lines: 500 },
  { of: "the cluster", files: /^src\/(cluster\/|redis)/, lines: 1830 },
  { of: "the sockets for nodemailer", files: /^src\/nodemailer/, lines: 320 },
  { of: "the library", files: /^src\//, lines: 5050 },
];

/** From low to high: a file imports from its own layer and the layers before it. */
const LAYERS: readonly { readonly name: string; readonly holds: RegExp }[] = [
  { name: "types", holds: /^src\/types(\.ts|\/[^/]+\.ts)$/ },
  { name: "errors", holds: /^src\/errors\.ts$/ },
  { name: "policy", holds: /^src\/policy\/[^/]+\.ts$/ },
  { name: "core", holds: /^src\/core\/[^/]+\.ts$/ },
  { name: "cluster", holds: /^src\/cluster\/[^/]+\.ts$/ },
  { name: "limiter", holds: /^src\/(?!index\.|cli\.|metrics\.|nodemailer\.|redis\.|watch\.)[^/]+\.ts$/ },
  { name: "adapters", holds: /^src\/((metrics|nodemailer|redis|watch)\.ts|(metrics|nodemailer)\/[^/]+\.ts)$/ },
  { name: "index", holds: /^src\/index\.ts$/ },
  { name: "simulate", holds: /^src\/simulate\/[^/]+\.ts$/ },
  { name: "cli", holds: /^src\/cli(\.ts|\/[^/]+\.ts)$/ },
];

const DEPENDENCIES = ["lru-cache", "debug", "re2js"];

const PURE = /^src\/(policy|core)\//;
/** The only I/O of its folder. */
const IMPURE_EXCEPTION = "src/policy/load.ts";
/** Functions of Node that compute and look nothing up. */
const PURE_NODE_IMPORTS: Readonly<Record<string, readonly string[]>> = {
  "src/policy/name.ts domainToASCII": ["node:url"],
  "src/policy/name.ts isIP": ["node:net"],
};
const IMPURE_NAMES = new Set(
  [
    "setTimeout setInterval setImmediate clearTimeout clearInterval clearImmediate queueMicrotask",
    "Promise PromiseLike Date performance process console crypto fetch require",
    // Ways around this list.
    "globalThis global eval Function",
  ].flatMap((names) => names.split(" ")),
);

const TOP_LEVEL = [
  // What the design puts there.
  "src test bench package.json tsconfig.json tsup.config.ts README.md",
  // What tools require by name.
  ".ci .editorconfig .gitattributes .gitignore .npmrc .oxlintrc.json .size-limit.json CHANGELOG.md LICENSE biome.json",
  "knip.json package-lock.json tsconfig.build.json vitest.config.ts",
  // There, but never committed.
  ".git node_modules dist coverage",
].flatMap((names) => names.split(" "));

// ── The checker ──────────────────────────────────────────────────────────────────────────────────

/** Paths from the root of the repository, and what is in them. */
type Sources = Readonly<Record<string, string>>;

interface Import {
  readonly from: string;
  /** "*" for a whole module: a namespace, a re-export, a dynamic import, an import for its effects. */
  readonly names: readonly string[];
}

interface Node {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** Every broken rule, as `file: what is wrong`. */
function problemsOf(sources: Sources): string[] {
  const problems: string[] = [];
  const importsOf = new Map<string, string[]>();
  const code = new Map<string, number>();

  for (const [file, text] of Object.entries(sources)) {
    const report = (problem: string) => problems.push(`${file}: ${problem}`);
    const { program, comments } = parse(file, text);

    const part = MOST_CODE.find(({ files }) => files.test(file))?.of ?? "the library";
    code.set(part, (code.get(part) ?? 0) + codeLineCount(text, comments));
    checkShape(file, text, program, report);

    const local: string[] = [];
    for (const found of importsIn(program)) {
      if (found.from.startsWith(".")) {
        const other = posix.join(posix.dirname(file), found.from).replace(/\.js$/, ".ts");
        if (!(other in sources)) report(`imports ${found.from}, which is not a source file`);
        else local.push(other);
      } else if (!found.from.startsWith("node:") && !DEPENDENCIES.includes(found.from)) {
        report(`imports ${found.from}; only ${DEPENDENCIES.join(", ")} and node: may be imported`);
      }
      if (isPure(file)) checkPureImport(file, found, report);
    }
    importsOf.set(file, local);
    checkDirection(file, local, report);
    if (isPure(file)) checkPure(program, report);
  }

  for (const { of, lines } of MOST_CODE) {
    const written = code.get(of) ?? 0;
    if (written > lines) problems.push(`${of}: ${written} lines of code, more than ${lines}`);
  }
  problems.push(...cyclesIn(importsOf));
  return problems;
}

function parse(file: string, text: string): { program: Node; comments: readonly Comment[] } {
  const { program, comments, errors } = parseSync(file, text);
  if (errors[0] !== undefined) throw new SyntaxError(`${file}: ${errors[0].message}`);
  return { program: program as unknown as Node, comments };
}

function checkShape(file: string, text: string, program: Node, report: (problem: string) => void): void {
  if (!/^(#!.*\n)?(\/\/|\/\*\*?) \S/.test(text)) report("does not say in its first line what it is for");
  if (lineCount(text) > MOST_LINES_OF_A_FILE) report(`${lineCount(text)} lines, more than ${MOST_LINES_OF_A_FILE}`);

  const statements = children(program);
  if (file === "src/index.ts" && !statements.every(isReExport)) report("does more than re-export");
  if (file === "src/types.ts" && !statements.every(isTypeOnly)) report("holds something that exists at run time");
}

function checkDirection(file: string, local: readonly string[], report: (problem: string) => void): void {
  const own = layerOf(file);
  if (own === -1) report("is in no folder of the layout");
  for (const other of local) {
    const theirs = layerOf(other);
    if (theirs > own) report(`imports ${other}: ${LAYERS[own]?.name} may not import ${LAYERS[theirs]?.name}`);
  }
}

function checkPureImport(file: string, { from, names }: Import, report: (problem: string) => void): void {
  if (from === "debug") report("imports debug, which writes to stderr");
  if (!from.startsWith("node:")) return;
  for (const name of names) {
    if (!PURE_NODE_IMPORTS[`${file} ${name}`]?.includes(from)) report(`imports ${name} from ${from}, but must be pure`);
  }
}

function checkPure(program: Node, report: (problem: string) => void): void {
  walk(program, (node, parent, field) => {
    if (node["async"] === true || node["await"] === true || node.type === "AwaitExpression") report("is asynchronous");
    if (node.type === "ImportExpression" || isImportMeta(node)) report("imports or looks at its module at run time");
    if (node.type !== "Identifier" || isMereName(parent, field)) return;
    const name = String(node["name"]);
    if (IMPURE_NAMES.has(name)) report(`uses ${name}`);
    if (name === "Math" && (parent.type !== "MemberExpression" || memberName(parent) === "random"))
      report("uses Math.random");
  });
}

function cyclesIn(importsOf: ReadonlyMap<string, readonly string[]>): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const follow = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file);
    if (start !== -1) found.push(`import cycle: ${[...path.slice(start), file].join(" → ")}`);
    if (start !== -1 || done.has(file)) return;
    for (const other of importsOf.get(file) ?? []) follow(other, [...path, file]);
    done.add(file);
  };
  for (const file of importsOf.keys()) follow(file, []);
  return found;
}

function importsIn(program: Node): Import[] {
  const found: Import[] = [];
  walk(program, (node) => {
    const source = node["source"] ?? node["argument"];
    const imports = [
      "ImportDeclaration",
      "ExportNamedDeclaration",
      "ExportAllDeclaration",
      "ImportExpression",
      "TSImportType",
    ];
    if (!imports.includes(node.type) || !isNode(source)) return;
    const specifiers = node["specifiers"];
    const names = Array.isArray(specifiers) && specifiers.length > 0 ? specifiers.map(importedName) : ["*"];
    found.push({ from: String(source["value"]), names });
  });
  return found;
}

function importedName(specifier: Node): string {
  const name = specifier["imported"] ?? specifier["local"];
  return specifier.type === "ImportNamespaceSpecifier" || !isNode(name) ? "*" : String(name["name"]);
}

function isReExport(statement: Node): boolean {
  return /^Export(Named|All)Declaration$/.test(statement.type) && isNode(statement["source"]);
}

function isTypeOnly(statement: Node): boolean {
  if (statement["importKind"] === "type" || statement["exportKind"] === "type") return true;
  return statement.type === "TSInterfaceDeclaration" || statement.type === "TSTypeAliasDeclaration";
}

/** Whether an identifier in this place only names a member or a label, and refers to nothing by itself. */
function isMereName(parent: Node, field: string): boolean {
  if (field === "imported" || field === "exported" || field === "label") return true;
  return (field === "property" || field === "key") && parent["computed"] !== true;
}

function isImportMeta(node: Node): boolean {
  return node.type === "MetaProperty" && (node["meta"] as Node)["name"] === "import";
}

function memberName(member: Node): unknown {
  const property = member["property"] as Node;
  return member["computed"] === true ? (property["value"] ?? "random") : property["name"];
}

function walk(node: Node, visit: (node: Node, parent: Node, field: string) => void): void {
  for (const field of visitorKeys[node.type] ?? []) {
    for (const child of [node[field]].flat()) {
      if (!isNode(child)) continue;
      visit(child, node, field);
      walk(child, visit);
    }
  }
}

function children(program: Node): Node[] {
  return [program["body"]].flat().filter(isNode);
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "type" in value;
}

function isPure(file: string): boolean {
  return PURE.test(file) && file !== IMPURE_EXCEPTION;
}

function layerOf(file: string): number {
  return LAYERS.findIndex(({ holds }) => holds.test(file));
}

function lineCount(text: string): number {
  return text.split("\n").length - 1;
}

function codeLineCount(text: string, comments: readonly Comment[]): number {
  const withoutComments = comments.reduceRight((rest, { start, end }) => rest.slice(0, start) + rest.slice(end), text);
  return withoutComments.split("\n").filter((line) => line.trim() !== "").length;
}

function strangersIn(topLevel: readonly string[]): string[] {
  return topLevel.filter((name) => !TOP_LEVEL.includes(name));
}

// ── What it is applied to ────────────────────────────────────────────────────────────────────────

function readSources(): Sources {
  const files = readdirSync(join(ROOT, "src"), { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && entry.name.endsWith(".ts"),
  );
  return Object.fromEntries(
    files.map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return [relative(ROOT, path).split(sep).join("/"), readFileSync(path, "utf8")];
    }),
  );
}

/** What is committed; in a copy that is no repository, everything that is there. */
function readTopLevel(): string[] {
  try {
    const listed = execFileSync("git", ["-c", "safe.directory=*", "ls-files"], {
      cwd: ROOT,
      encoding: "utf8",
      stdio: "pipe",
    });
    const names = new Set(listed.split("\n").map((path) => path.split("/", 1)[0] ?? ""));
    if (names.has("package.json")) return [...names].filter((name) => name !== "");
  } catch {
    // No git here.
  }
  return readdirSync(ROOT);
}

describe("architecture", () => {
  it("is kept by the sources", () => {
    const sources = readSources();
    expect(Object.keys(sources)).toContain("src/index.ts");
    expect(problemsOf(sources)).toEqual([]);
  });

  it("is kept by the top level of the repository", () => {
    const topLevel = readTopLevel();
    expect(topLevel).toContain("package.json");
    expect(strangersIn(topLevel)).toEqual([]);
  });
});

// ── The checker itself: every rule is broken once, or it could not fail ──────────────────────────

const FIRST_LINE = "// A file.\n";

/** The problems of these files, each given a first line. */
function problemsWith(files: Sources): string[] {
  return problemsOf(Object.fromEntries(Object.entries(files).map(([file, text]) => [file, FIRST_LINE + text])));
}

describe("problemsOf", () => {
  it("finds nothing wrong with sources that keep the rules", () => {
    expect(
      problemsWith({
        "src/types.ts": "export interface Target { readonly process: string }\nexport type Many = readonly Target[];",
        "src/errors.ts":
          'import type { Target } from "./types.js";\nexport class PolicyError extends Error { target?: Target }',
        "src/policy/name.ts":
          'import { isIP } from "node:net";\nimport { domainToASCII } from "node:url";\nisIP(domainToASCII(""));',
        "src/policy/load.ts":
          'import { readFile } from "node:fs/promises";\nexport const load = async () => await readFile("x");',
        "src/core/match.ts":
          'import { LRUCache } from "lru-cache";\nimport "../policy/name.js";\nimport "../errors.js";\nMath.max(1);',
        "src/cluster/memory.ts": 'import "../core/match.js";\nqueueMicrotask(() => {});',
        "src/lease.ts": 'import "./core/match.js";',
        "src/limiter.ts":
          'import debug from "debug";\nimport "./lease.js";\nimport "./cluster/memory.js";\nsetTimeout(() => {}, 1);',
        "src/index.ts": 'export { createLimiter } from "./limiter.js";\nexport type * from "./types.js";',
        "src/cli.ts": 'import "./index.js";',
      }),
    ).toEqual([]);
  });

  it.each([
    ["policy from core", "src/policy/a.ts", "src/core/b.ts", "policy may not import core"],
    ["errors from policy", "src/errors.ts", "src/policy/b.ts", "errors may not import policy"],
    ["types from errors", "src/types.ts", "src/errors.ts", "types may not import errors"],
    ["core from cluster", "src/core/a.ts", "src/cluster/b.ts", "core may not import cluster"],
    ["core from limiter", "src/core/a.ts", "src/limiter.ts", "core may not import limiter"],
    ["cluster from limiter", "src/cluster/a.ts", "src/lease.ts", "cluster may not import limiter"],
    ["limiter from index", "src/limiter.ts", "src/index.ts", "limiter may not import index"],
    ["index from cli", "src/index.ts", "src/cli.ts", "index may not import cli"],
  ])("finds an import of %s", (_, file, other, problem) => {
    const specifier = posix
      .relative(posix.dirname(file), other)
      .replace(/^(?!\.)/, "./")
      .replace(/\.ts$/, ".js");
    for (const text of [`export * from "${specifier}";`, `export type * from "${specifier}";`]) {
      expect(problemsWith({ [file]: text, [other]: "" })).toContain(`${file}: imports ${other}: ${problem}`);
    }
  });

  it.each([
    'import type { X } from "./b.js";',
    'export const load = () => import("./b.js");',
    'export type X = import("./b.js").X;',
  ])("finds an import cycle closed by %s", (text) => {
    expect(problemsWith({ "src/cluster/a.ts": text, "src/cluster/b.ts": 'import "./a.js";' })).toEqual([
      "import cycle: src/cluster/a.ts → src/cluster/b.ts → src/cluster/a.ts",
    ]);
  });

  it.each([
    ['import { request } from "undici";', "undici"],
    ['import type { Redis } from "ioredis";', "ioredis"],
    ['export const load = () => import("re2");', "re2"],
    ['import "fs";', "fs"],
  ])("finds the foreign import in %s", (text, name) => {
    expect(problemsWith({ "src/limiter.ts": text })).toEqual([
      `src/limiter.ts: imports ${name}; only lru-cache, debug, re2js and node: may be imported`,
    ]);
  });

  it("finds an import of a file that is not there", () => {
    expect(problemsWith({ "src/limiter.ts": 'import "./gone.js";' })).toEqual([
      "src/limiter.ts: imports ./gone.js, which is not a source file",
    ]);
  });

  it.each([
    ['import { readFileSync } from "node:fs";', "imports readFileSync from node:fs, but must be pure"],
    ['import * as net from "node:net";', "imports * from node:net, but must be pure"],
    ['import net from "node:net";', "imports net from node:net, but must be pure"],
    ['import { isIP } from "node:net";', "imports isIP from node:net, but must be pure"],
    ['import debug from "debug";', "imports debug, which writes to stderr"],
    ["export async function take() {}", "is asynchronous"],
    ["export const take = async () => {};", "is asynchronous"],
    ["export class Counters { async take() {} }", "is asynchronous"],
    ["export type Later = Promise<void>;", "uses Promise"],
    ["export const later = Promise.resolve();", "uses Promise"],
    ["export type Later = PromiseLike<void>;", "uses PromiseLike"],
    ["setTimeout(() => {}, 1);", "uses setTimeout"],
    ["export const later = setInterval;", "uses setInterval"],
    ["queueMicrotask(() => {});", "uses queueMicrotask"],
    ["export const id = process.pid;", "uses process"],
    ["export const now = Date.now();", "uses Date"],
    ["export const now = new Date();", "uses Date"],
    ["export const now = performance.now();", "uses performance"],
    ["export const clock = { performance };", "uses performance"],
    ["export const now = globalThis.performance.now();", "uses globalThis"],
    ["export const pick = Math.random();", "uses Math.random"],
    ['export const pick = Math["random"]();', "uses Math.random"],
    ["export const { random } = Math;", "uses Math.random"],
    ["export const path = import.meta.url;", "imports or looks at its module at run time"],
  ])("finds what is impure in %s", (text, problem) => {
    expect(problemsWith({ "src/core/counters.ts": text })).toEqual([`src/core/counters.ts: ${problem}`]);
    expect(problemsWith({ "src/policy/parse.ts": text })).toEqual([`src/policy/parse.ts: ${problem}`]);
  });

  it("allows name.ts nothing of node: but the two pure functions, each from its own module", () => {
    expect(
      problemsWith({ "src/policy/name.ts": 'import { isIP, connect } from "node:net";\nimport "node:url";' }),
    ).toEqual([
      "src/policy/name.ts: imports connect from node:net, but must be pure",
      "src/policy/name.ts: imports * from node:url, but must be pure",
    ]);
    expect(problemsWith({ "src/policy/name.ts": 'import { isIP } from "node:url";' })).toHaveLength(1);
  });

  it("is not fooled by comments, strings and members of the same name", () => {
    const text = '/* await Promise */ export const said = ["Date", `process`, /setTimeout/, { Date: 1 }.Date];\n';
    expect(problemsWith({ "src/core/line.ts": text })).toEqual([]);
  });

  it("finds a file that does not say what it is for", () => {
    const problem = "src/limiter.ts: does not say in its first line what it is for";
    expect(problemsOf({ "src/limiter.ts": "export const limit = 1; // A limit.\n" })).toEqual([problem]);
    expect(problemsOf({ "src/limiter.ts": "\n// A limiter.\n" })).toEqual([problem]);
    expect(problemsOf({ "src/limiter.ts": "//\n// A limiter.\n" })).toEqual([problem]);
    expect(problemsOf({ "src/cli.ts": "#!/usr/bin/env node\n// The command.\n" })).toEqual([]);
  });

  it("finds a file that is too long", () => {
    expect(problemsWith({ "src/limiter.ts": "\n".repeat(MOST_LINES_OF_A_FILE - 1) })).toEqual([]);
    expect(problemsWith({ "src/limiter.ts": "\n".repeat(MOST_LINES_OF_A_FILE) })).toEqual([
      "src/limiter.ts: 401 lines, more than 400",
    ]);
  });

  it("finds that there is too much code in all, and does not count what is no code", () => {
    const most = (line: string) => line.repeat(MOST_LINES_OF_A_FILE - 1);
    const files = (text: string) =>
      Object.fromEntries(
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"].map((name) => [`src/core/${name}.ts`, text]),
      );
    expect(problemsWith(files(most("x(); // y\n")))).toEqual(["the library: 5187 lines of code, more than 5050"]);
    expect(problemsWith(files(most("// x();\n")))).toEqual([]);
    expect(problemsWith(files(`/*${most("x();\n")}*/`))).toEqual([]);
    expect(problemsWith(files(most(" \n")))).toEqual([]);
  });

  it("finds a folder that is not in the layout", () => {
    for (const file of ["src/utils/a.ts", "src/core/deep/a.ts"]) {
      expect(problemsWith({ [file]: "" })).toEqual([`${file}: is in no folder of the layout`]);
    }
  });

  it("finds code in index.ts and in types.ts", () => {
    for (const text of ["export const limit = 1;", 'import "./limiter.js";', "const limit = 1;\nexport { limit };"]) {
      expect(problemsWith({ "src/index.ts": text, "src/limiter.ts": "" })).toEqual([
        "src/index.ts: does more than re-export",
      ]);
    }
    for (const text of ["export const limit = 1;", "export class Target {}"]) {
      expect(problemsWith({ "src/types.ts": text })).toEqual(["src/types.ts: holds something that exists at run time"]);
    }
  });
});

describe("strangersIn", () => {
  it("finds what has no place at the top level", () => {
    expect(strangersIn(["src", "lib", ".git", "node_modules", "jest.config.js", "package.json"])).toEqual([
      "lib",
      "jest.config.js",
    ]);
  });
});
