// Finds the command that is meant, answers --help and --version, and says what went wrong.

import { isLimiterError } from "../index.js";
import { closest, hint } from "../policy/suggest.js";
import { unknownOption } from "./arguments.js";
import { type Command, type Io, Trouble, UsageError } from "./command.js";

const PROGRAM = "outbound-limiter";
const TROUBLE = 2;
const OPTIONS = { help: { type: "boolean" }, version: { type: "boolean" } } as const;

/** Runs `outbound-limiter ARGS` and returns its exit status. */
export async function dispatch(
  args: readonly string[],
  io: Io,
  commands: readonly Command[],
  version: string,
): Promise<number> {
  const [name, ...rest] = args;
  const named = commands.find((command) => command.name === name);
  try {
    if (name === undefined) {
      io.stderr.write(usage(commands));
      return TROUBLE;
    }
    if (name === "--version") io.stdout.write(`${version}\n`);
    else if (isHelp(name) || name === "help") io.stdout.write(helpOf(rest[0], commands));
    else if (name.startsWith("-")) throw unknownOption(name, OPTIONS);
    else if (named === undefined) throw unknownCommand(name, commands);
    else if (asksForHelp(rest)) io.stdout.write(named.help);
    else return await named.run(rest, io);
    return 0;
  } catch (error) {
    io.stderr.write(complaint(error, named === undefined ? PROGRAM : `${PROGRAM} ${named.name}`));
    return TROUBLE;
  }
}

const isHelp = (word: string): boolean => word === "--help" || word === "-h";

/** Behind `--` a word is no option. */
function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  return args.slice(0, end === -1 ? args.length : end).some(isHelp);
}

function helpOf(name: string | undefined, commands: readonly Command[]): string {
  if (name === undefined) return usage(commands);
  const command = commands.find((one) => one.name === name);
  if (command === undefined) throw unknownCommand(name, commands);
  return command.help;
}

function unknownCommand(name: string, commands: readonly Command[]): UsageError {
  const names = commands.map((command) => command.name);
  const meant = closest(name, names, hint);
  return new UsageError(
    `unknown command ${name}; ${meant === undefined ? `there are ${names.join(", ")}` : `did you mean ${meant}?`}`,
  );
}

function complaint(error: unknown, command: string): string {
  if (error instanceof UsageError) return `${command}: ${error.message}\nTry \`${command} --help\`.\n`;
  if (error instanceof Trouble) return `${command}: ${error.message}\n`;
  if (isLimiterError(error)) return `${error.message}\n`;
  // A mistake of this program: where it happened is what helps.
  return `${command}: ${error instanceof Error ? error.stack : String(error)}\n`;
}

function usage(commands: readonly Command[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length));
  return `Outbound connection limits in Momentum's syntax: check a policy, ask it, compare it, try it.

Usage: ${PROGRAM} COMMAND ARGUMENT…

Commands:
${commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`).join("\n")}

Options:
  --help     this text; behind a command, all about that command
  --version  the version

Examples:
  ${PROGRAM} check limits.conf
  ${PROGRAM} explain limits.conf --domain gmail.com --binding mta-1
  ${PROGRAM} explain --help

Exit status: 0 and 1 are the answer (1: a policy has issues, policies differ), 2 is trouble.
`;
}
