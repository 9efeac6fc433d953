// Builds dist: both module formats with tsup, declarations with tsc (typescript 7 has no API for tsup's own `dts`).

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build, type Options } from "tsup";
import * as scripts from "./src/cluster/scripts.js";

/** What can be imported; the command can only be run. */
const library = ["src/index.ts", "src/metrics.ts", "src/redis.ts", "src/nodemailer.ts"];
const entry = [...library, "src/cli.ts"];
const common: Options = { outDir: "dist", target: "node20", dts: false, sourcemap: true, removeNodeProtocol: false };

const config: Options = {
  ...common,
  entry,
  format: ["esm"],
  clean: true,
  // Entries share their classes, in CommonJS too: its files are made from the same chunks, one by one.
  splitting: true,
  esbuildPlugins: [
    {
      name: "lua",
      setup: (build) => {
        build.onLoad({ filter: /[\\/]cluster[\\/]scripts\.ts$/ }, () => ({ contents: inlined(scripts), loader: "js" }));
      },
    },
  ],
  onSuccess: async () => {
    // Not by tsup's own splitting of CommonJS: that goes through sucrase, which turns `?.` into closures and class fields
    // into calls, on the hot path as well, and writes absolute paths into source maps.
    await build({
      ...common,
      config: false,
      entry: ["dist/**/*.js", "!dist/cli.js"],
      format: ["cjs"],
      bundle: false,
      silent: true,
    });
    execFileSync("tsc", ["-p", "tsconfig.build.json"], { stdio: "inherit" });

    const declarations = new Set<string>();
    for (const source of library) collectDeclarations(source.replace(/^src\/(.*)\.ts$/, "$1.d.ts"), declarations);
    for (const file of readdirSync("dist", { recursive: true, encoding: "utf8" })) {
      if (file.endsWith(".cjs")) copyForCommonJs(file, file);
      if (!file.endsWith(".d.ts")) continue;
      if (declarations.has(file)) copyForCommonJs(file, file.replace(/ts$/, "cts"));
      else rmSync(join("dist", file));
    }
  },
};

export default config;

/** A module that exports texts of Lua, so that the package reads no files. */
function inlined(texts: Readonly<Record<string, string>>): string {
  const lines = Object.entries(texts).map(
    ([name, text]) => `export const ${name} = ${JSON.stringify(withoutComments(text))};`,
  );
  return lines.join("\n");
}

/** Lua without lines of comment, blank lines and indentation: a server keeps each script, and a client sends it. */
function withoutComments(lua: string): string {
  if (/\[=*\[|\\\n/.test(lua)) throw new Error("A Lua text or comment of several lines: it would be changed");
  const lines = lua.split("\n").map((line) => line.trim());
  return lines.filter((line) => line !== "" && !line.startsWith("--")).join("\n");
}

const RELATIVE_IMPORT = /((?:from|import|require) ?\(?)(["'])(\.{1,2}\/[^"']*)\.js\2/g;

/** Adds a declaration file and those it leads to. The others are of no use to a user, and name types of dependencies. */
function collectDeclarations(file: string, found: Set<string>): void {
  if (found.has(file)) return;
  found.add(file);
  for (const [, , , path] of readFileSync(join("dist", file), "utf8").matchAll(RELATIVE_IMPORT)) {
    collectDeclarations(join(file, "..", `${path}.d.ts`), found);
  }
}

/** Copies a file of dist with its relative imports made `.cjs`: CommonJS can require neither an ES module nor its types. */
function copyForCommonJs(from: string, to: string): void {
  const text = readFileSync(join("dist", from), "utf8");
  writeFileSync(join("dist", to), text.replace(RELATIVE_IMPORT, "$1$2$3.cjs$2"));
}
