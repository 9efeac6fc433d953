// Policy files and what they include: the only input and output of this folder.

import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { dirname, isAbsolute, join } from "node:path";
import { getSystemErrorMap } from "node:util";
import { PolicyError } from "../errors.js";
import type { ParseOptions, Policy } from "../types.js";
import { buildPolicy } from "./parse.js";
import { Source } from "./source.js";
import { readStatements } from "./statements.js";
import type { Included, PolicyFile, Statement, Word } from "./syntax.js";

/** Files that include each other twice over would otherwise be read for ever. */
const MOST_FILES = 1_000;

/**
 * Reads a policy file and everything it includes. A relative `include` is looked for in the folder of the file that
 * names it, then in the folder of `path`; a folder stands for its files in alphabetical order, without hidden ones.
 * Follows the manual's page "Using the include and readonly_include Directives".
 *
 * @param path the policy file
 * @param options `unknown`, what to do with options and stanzas that are not ours (default "error")
 * @throws {PolicyError} with every mistake, at most 50; a file that cannot be read is one, at the `include` that names it
 * @example
 * const policy = await loadPolicy("limits.conf");
 */
export function loadPolicy(path: string, options: Omit<ParseOptions, "source"> = {}): Promise<Policy> {
  return readPolicy(path, options, () => undefined);
}

/**
 * The same. `look` is told of every file and folder before it is looked at or for: the policy may be another once one of
 * them is.
 */
export async function readPolicy(
  path: string,
  options: Omit<ParseOptions, "source">,
  look: (path: string) => void,
): Promise<Policy> {
  const loader = new Loader(dirname(path), look);
  let file: PolicyFile;
  try {
    file = await loader.read(path, [], []);
  } catch (error) {
    const message = `cannot read the policy: ${reasonOf(error)}`;
    throw new PolicyError([{ rule: "include", message, source: path, line: 0, column: 0, excerpt: path }]);
  }
  return buildPolicy(file, options);
}

class Loader {
  readonly #root: string;
  readonly #look: (path: string) => void;
  #files = 0;

  constructor(root: string, look: (path: string) => void) {
    this.#root = root;
    this.#look = look;
  }

  /** `chain` holds the real paths of the files around it, `at` where their includes stand. */
  async read(path: string, chain: readonly string[], at: readonly number[]): Promise<PolicyFile> {
    this.#look(path);
    const text = await readFile(path, "utf8");
    const file = { source: new Source(path, text, at), statements: readStatements(text) };
    await this.#includes(file.statements, file.source, [...chain, await realpath(path)]);
    return file;
  }

  async #includes(statements: readonly Statement[], from: Source, chain: readonly string[]): Promise<void> {
    for (const statement of statements) {
      if (statement.is === "stanza") await this.#includes(statement.body, from, chain);
      else if (statement.is === "include") statement.included = await this.#include(statement.path, from, chain);
    }
  }

  async #include({ text: path, start }: Word, from: Source, chain: readonly string[]): Promise<readonly Included[]> {
    if (/^[a-z][a-z0-9+.-]*:\/\//i.test(path)) {
      return [{ problem: "`include` of a URL", help: "save it to a file and include that" }];
    }
    const found = await this.#find(path, from.name);
    if (!Array.isArray(found)) return [found];
    const included: Included[] = [];
    for (const [index, file] of found.entries()) {
      included.push(await this.#includeFile(file, chain, [...from.includedAt, start, index]));
    }
    return included;
  }

  async #includeFile(file: string, chain: readonly string[], at: readonly number[]): Promise<Included> {
    try {
      if (chain.includes(await realpath(file)))
        return { problem: `\`${file}\` includes itself`, help: `by way of ${chain.join(", ")}` };
      if (++this.#files > MOST_FILES) return { problem: `more than ${MOST_FILES} files are included` };
      return { file: await this.read(file, chain, at) };
    } catch (error) {
      return { problem: `cannot read \`${file}\`: ${reasonOf(error)}` };
    }
  }

  /** The file an include names, or the files of the folder it names. */
  async #find(path: string, from: string): Promise<string[] | { readonly problem: string; readonly help?: string }> {
    const candidates = isAbsolute(path) ? [path] : [...new Set([join(dirname(from), path), join(this.#root, path)])];
    for (const candidate of candidates) {
      this.#look(candidate);
      try {
        const found = await stat(candidate);
        if (found.isFile()) return [candidate];
        if (found.isDirectory()) return await filesOf(candidate);
        return { problem: `\`${candidate}\` is neither a file nor a folder` };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT")
          return { problem: `cannot read \`${candidate}\`: ${reasonOf(error)}` };
      }
    }
    return {
      problem: `cannot read \`${path}\`: no such file or folder`,
      help: `looked for ${candidates.join(" and ")}`,
    };
  }
}

async function filesOf(folder: string): Promise<string[]> {
  const files: string[] = [];
  for (const name of (await readdir(folder)).sort()) {
    const path = join(folder, name);
    // What cannot be looked at is said when it is read.
    const isFolder = await stat(path).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (!name.startsWith(".") && !isFolder) files.push(path);
  }
  return files;
}

/** Why a file could not be read or written, in words. */
export function reasonOf(error: unknown): string {
  const { code, errno, message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return "no such file or folder";
  if (code === "EISDIR") return "it is a folder";
  return getSystemErrorMap().get(errno ?? 0)?.[1] ?? String(message);
}
