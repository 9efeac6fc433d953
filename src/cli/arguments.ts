// Command-line arguments → options and operands, with "did you mean" for an option that is not there.

import { type ParseArgsConfig, parseArgs } from "node:util";
import { closest, hint } from "../policy/suggest.js";
import { UsageError } from "./command.js";

type Options = NonNullable<ParseArgsConfig["options"]>;
type Arguments<O extends Options> = ReturnType<typeof parseArgs<{ options: O; allowPositionals: true }>>;

/**
 * Options and operands, in any order; behind `--` there are only operands.
 *
 * @param options as for `parseArgs` of node:util
 * @throws {UsageError} an option that is not there, without its value, or with one it does not take
 */
export function readArguments<const O extends Options>(args: readonly string[], options: O): Arguments<O> {
  const config = { args: [...args], options, allowPositionals: true } as const;
  const { tokens } = parseArgs({ ...config, strict: false, tokens: true });
  for (const token of tokens) {
    if (token.kind === "option" && !Object.hasOwn(options, token.name)) throw unknownOption(token.rawName, options);
  }
  try {
    return parseArgs(config);
  } catch (error) {
    // The first line says what is wrong, the others what else a program could mean by it.
    throw new UsageError(String((error as Error).message).split("\n", 1)[0]);
  }
}

export function unknownOption(written: string, options: Options): UsageError {
  const meant = closest(written.replace(/^-+/, ""), Object.keys(options), hint);
  return new UsageError(`unknown option ${written}${meant === undefined ? "" : `; did you mean --${meant}?`}`);
}

/** The operands by the names they have in the usage. @throws {UsageError} too few or too many */
export function readOperands<const N extends readonly string[]>(
  given: readonly string[],
  names: N,
): { readonly [index in keyof N]: string } {
  const missing = names[given.length];
  if (missing !== undefined) throw new UsageError(`${missing} is missing`);
  if (given.length > names.length) {
    throw new UsageError(`one argument too many: ${given[names.length]}; expected ${names.join(" ")}`);
  }
  return given as { readonly [index in keyof N]: string };
}
