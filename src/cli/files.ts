// Reads what a command is given: a policy or a text, from a file, from a pipe, or from the standard input for `-`.

import { readFile, stat } from "node:fs/promises";
import { loadPolicy, type Policy, PolicyError, parsePolicy } from "../index.js";
import { reasonOf } from "../policy/load.js";
import { type Io, Trouble, UsageError } from "./command.js";

/** What stands for the standard input. */
const STDIN = "-";

/**
 * The policy in a file, with its includes; one from a pipe or the standard input has none.
 *
 * @throws {PolicyError} it has mistakes
 * @throws {Trouble} it cannot be read
 */
export async function readPolicy(path: string, io: Io, ignoresUnknown = false): Promise<Policy> {
  const unknown = ignoresUnknown ? "ignore" : "error";
  if (path === STDIN || (await isPipe(path))) {
    return parsePolicy(await readText(path, io), { source: nameOf(path), unknown });
  }
  try {
    return await loadPolicy(path, { unknown });
  } catch (error) {
    // Not a mistake in the policy: there is none.
    if (error instanceof PolicyError && error.issues[0].rule === "include" && error.issues[0].line === 0) {
      throw new Trouble(error.message);
    }
    throw error;
  }
}

/** @throws {UsageError} more than one of the files is the standard input */
export function checkInputs(paths: readonly (string | undefined)[]): void {
  if (paths.filter((path) => path === STDIN).length > 1)
    throw new UsageError("the standard input can be read once only");
}

/** @throws {Trouble} it cannot be read */
export async function readText(path: string, io: Io): Promise<string> {
  try {
    return path === STDIN ? await io.stdin() : await readFile(path, "utf8");
  } catch (error) {
    throw new Trouble(`${nameOf(path)}: cannot read it: ${reasonOf(error)}`);
  }
}

/** The name of a file in messages. */
export const nameOf = (path: string): string => (path === STDIN ? "<stdin>" : path);

/** `<(…)` of a shell is one. It has no folder to look for includes in, and is read once. */
async function isPipe(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFIFO();
  } catch {
    return false;
  }
}
