// The process's own streams as the Io of a command: colours, progress, and readers that go away early.

import { text } from "node:stream/consumers";
import type { WriteStream } from "node:tty";
import { reasonOf } from "../policy/load.js";
import type { Io, Output, Style } from "./command.js";

const CODES: { readonly [style in Style]: number } = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33 };

/** The streams of this process. A reader that stops reading ends nothing and is no mistake: the exit status is still right. */
export function processIo(): Io {
  const progress = new Progress(process.stderr);
  const io: Io = {
    stdin: async () => text(process.stdin),
    stdout: outputTo(process.stdout, progress),
    stderr: outputTo(process.stderr, progress),
    progress: (line) => progress.show(line),
  };
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") return;
    process.exitCode = 2;
    io.stderr.write(`outbound-limiter: cannot write the answer: ${reasonOf(error)}\n`);
  });
  process.stderr.on("error", () => {
    // Nowhere is left to say it.
  });
  return io;
}

function outputTo(stream: WriteStream, progress: Progress): Output {
  const isTerminal = stream.isTTY === true;
  const colours = isTerminal && !process.env["NO_COLOR"] && stream.hasColors();
  return {
    write(words) {
      progress.clear();
      stream.write(words);
    },
    isTerminal,
    paint: (style, words) => (colours ? `\u001b[${CODES[style]}m${words}\u001b[0m` : words),
  };
}

/** One line on a terminal that is written over again and again. */
class Progress {
  readonly #stream: WriteStream;
  #shown = false;

  constructor(stream: WriteStream) {
    this.#stream = stream;
  }

  show(line: string): void {
    if (this.#stream.isTTY !== true) return;
    // A longer line would wrap, and only its last part could be written over.
    this.#stream.write(`\r${line.slice(0, (this.#stream.columns || 80) - 1)}\u001b[K`);
    this.#shown = true;
  }

  clear(): void {
    if (this.#shown) this.#stream.write("\r\u001b[K");
    this.#shown = false;
  }
}
