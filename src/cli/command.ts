// What a command of `outbound-limiter` is, and all it may touch of the world: its arguments and its Io.

/** One command: `outbound-limiter NAME ARGUMENT…`. */
export interface Command {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** All that `NAME --help` prints: usage, options, exit status, examples. Ends with a line end. */
  readonly help: string;
  /**
   * Does the work. `--help` does not get here.
   *
   * @param args what stands behind the name; `readArguments` takes it apart
   * @returns the exit status: 0 and 1 are the answer, 2 is trouble
   * @throws {UsageError} the arguments make no sense
   * @throws {Trouble} something cannot be read, written or done
   * @throws {PolicyError} a policy cannot be used
   */
  run(args: readonly string[], io: Io): Promise<number>;
}

/** The world as a command sees it. */
export interface Io {
  /** All of the standard input. */
  stdin(): Promise<string>;
  /** For the answer, and nothing else. */
  readonly stdout: Output;
  /** For what goes wrong. */
  readonly stderr: Output;
  /** Says how far long work is, on one line that the next call replaces. Only people see it: it is nothing but on a terminal. */
  progress(text: string): void;
}

export interface Output {
  write(text: string): void;
  readonly isTerminal: boolean;
  /** The text in a style where colours are wanted, else the text as it is. */
  paint(style: Style, text: string): string;
}

export type Style = "bold" | "dim" | "red" | "green" | "yellow";

/** Arguments that make no sense. Reported with a pointer to `--help`. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** What could not be done, for people: a file that cannot be read. */
export class Trouble extends Error {
  override readonly name = "Trouble";
}
