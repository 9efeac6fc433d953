// A fleet of sender processes and the receiver that counts their connections. The programs are built once for each file
// of tests, from a copy of the sources: so a guard can be taken out of one copy, to see that its absence is noticed.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { build } from "tsup";
import { onTestFailed } from "vitest";
import type { Limits, ReceiverCommand, Report } from "./receiver.js";
import type { Counts, SenderCommand, SenderMessage, SenderOptions } from "./sender.js";

const ROOT = join(import.meta.dirname, "../..");

/** Of most fleets here, in milliseconds. */
export const TTL = 2_000;
export const BEAT: number = TTL / 5;

/** A text in a file of `src`, there exactly once, and what it becomes. */
export interface Patch {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

export interface Programs extends Disposable {
  readonly sender: string;
  readonly receiver: string;
}

/** Builds the sender and the receiver. */
export async function buildPrograms(patches: readonly Patch[] = []): Promise<Programs> {
  const scratch = mkdtempSync(join(tmpdir(), "outbound-limiter-chaos-"));
  for (const name of ["src", "test/chaos", "test/redis", "package.json"]) {
    cpSync(join(ROOT, name), join(scratch, name), { recursive: true });
  }
  symlinkSync(join(ROOT, "node_modules"), join(scratch, "node_modules"), "junction");
  for (const { file, from, to } of patches) {
    const path = join(scratch, "src", file);
    const parts = readFileSync(path, "utf8").split(from);
    if (parts.length !== 2) throw new Error(`src/${file} has ${parts.length - 1} times, not once: ${from}`);
    writeFileSync(path, parts.join(to));
  }
  const dist = join(scratch, "dist");
  mkdirSync(dist);
  const cluster = join(scratch, "src/cluster");
  for (const name of readdirSync(cluster)) if (name.endsWith(".lua")) cpSync(join(cluster, name), join(dist, name));
  await build({
    config: false,
    entry: [join(scratch, "test/chaos/sender.ts"), join(scratch, "test/chaos/receiver.ts")],
    outDir: dist,
    format: ["esm"],
    target: "node20",
    external: [/^[^./]/],
    silent: true,
  });
  return {
    sender: join(dist, "sender.js"),
    receiver: join(dist, "receiver.js"),
    [Symbol.dispose]: () => rmSync(scratch, { recursive: true, force: true }),
  };
}

/** A sender, as seen from outside. */
export interface Sender {
  readonly name: string;
  readonly pid: number;
  /** As it told last, at most a moment ago. */
  readonly counts: Counts;
  readonly isAlive: boolean;
  do(command: SenderCommand): Promise<void>;
  signal(name: "SIGKILL" | "SIGSTOP" | "SIGCONT"): void;
  /** Resolves with the signal that ended it, if one did. */
  readonly ended: Promise<string | null>;
}

export type FleetOptions = Partial<Omit<SenderOptions, "name" | "receiver" | "urls">> & {
  /** Of the engine. */
  readonly url: string | readonly string[];
  readonly policy: string;
  readonly limits: Limits;
};

const SENDER = {
  library: "ioredis 5",
  targets: [{ domain: "gmail.com" }],
  flight: 4,
  keep: [],
  hold: [5, 60],
  longHold: [100, 1_500],
  pause: [0, 5],
  timeout: undefined,
} as const satisfies Partial<SenderOptions>;

export class Fleet implements AsyncDisposable {
  readonly #programs: Programs;
  readonly #options: FleetOptions;
  readonly #receiver: ChildProcess;
  readonly #port: number;
  readonly senders: Sender[] = [];
  readonly #children = new Set<ChildProcess>();
  #asked = 0;

  private constructor(programs: Programs, options: FleetOptions, receiver: ChildProcess, port: number) {
    this.#programs = programs;
    this.#options = options;
    this.#receiver = receiver;
    this.#port = port;
  }

  /** Starts the receiver; senders come by `add`. */
  static async start(programs: Programs, options: FleetOptions): Promise<Fleet> {
    const receiver = fork(programs.receiver, [JSON.stringify(options.limits)]);
    const [{ address }] = (await once(receiver, "message")) as [{ address: { port: number } }];
    const fleet = new Fleet(programs, options, receiver, address.port);
    onTestFailed(() => void process.stderr.write(`${fleet.summary}\n`));
    return fleet;
  }

  /** Starts senders, and waits until each has a limiter. */
  async add(count: number, options: Partial<FleetOptions> = {}): Promise<readonly Sender[]> {
    const added = await Promise.all(Array.from({ length: count }, async () => this.#start(options)));
    return added;
  }

  async #start(changed: Partial<FleetOptions>): Promise<Sender> {
    const { url, limits: _, cluster, ...others } = { ...this.#options, ...changed };
    const name = `sender-${this.senders.length}`;
    const options: SenderOptions = {
      ...SENDER,
      ...others,
      name,
      receiver: this.#port,
      urls: [url].flat(),
      cluster: { prefix: "chaos", ttl: TTL, ...cluster },
    };
    const child = fork(this.#programs.sender, [JSON.stringify(options)], {
      stdio: ["ignore", "inherit", "pipe", "ipc"],
    });
    this.#children.add(child);
    let words = "";
    child.stderr?.on("data", (chunk: Buffer) => {
      words += chunk.toString();
    });
    const ended = once(child, "exit").then(([status, signal]: (number | string | null)[]) => {
      this.#children.delete(child);
      if (status !== 0 && signal === null) throw new Error(`${name} ended with ${status}:\n${words}`);
      return signal as string | null;
    });
    // Whoever waits for it is told; and a test in which a sender broke down fails by what is missing.
    ended.catch((error: unknown) => process.stderr.write(`${String(error)}\n`));
    let counts: Counts = { granted: 0, refused: {}, lost: 0, open: 0, states: [], waits: [] };
    child.on("message", (message: SenderMessage) => {
      if ("counts" in message) counts = message.counts;
    });
    const done = async (what: "ready" | "policy"): Promise<void> => {
      await new Promise<void>((resolve) => {
        const hear = (message: SenderMessage): void => {
          if (!("done" in message) || message.done !== what) return;
          child.off("message", hear);
          resolve();
        };
        child.on("message", hear);
        child.once("exit", () => resolve());
      });
    };
    const sender: Sender = {
      name,
      pid: Number(child.pid),
      get counts() {
        return counts;
      },
      get isAlive() {
        return child.exitCode === null && child.signalCode === null;
      },
      do: async (command) => {
        if (!child.connected) return;
        child.send(command);
        if (command.do === "policy") await done("policy");
      },
      signal: (signal) => void child.kill(signal),
      ended,
    };
    this.senders.push(sender);
    await done("ready");
    return sender;
  }

  /** What the receiver has counted. */
  async report(): Promise<Report> {
    return this.#ask({ do: "report", id: ++this.#asked });
  }

  /** What it has counted, for the last time: it begins anew. */
  async mark(): Promise<Report> {
    return this.#ask({ do: "mark", id: ++this.#asked });
  }

  async limit(limits: Limits): Promise<void> {
    await this.#ask({ do: "limits", id: ++this.#asked, limits });
  }

  async #ask(command: ReceiverCommand): Promise<Report> {
    return new Promise((resolve) => {
      const hear = ({ id, answer }: { id: number; answer: Report }): void => {
        if (id !== command.id) return;
        this.#receiver.off("message", hear);
        resolve(answer);
      };
      this.#receiver.on("message", hear);
      this.#receiver.send(command);
    });
  }

  /** Waits until that many connections are open, or until what is asked for holds. */
  async until(holds: number | ((report: Report) => boolean), atMost = 15_000): Promise<Report> {
    const end = performance.now() + atMost;
    for (;;) {
      const report = await this.report();
      if (typeof holds === "number" ? report.open["*"] === holds || (holds === 0 && !report.open["*"]) : holds(report))
        return report;
      if (performance.now() > end)
        throw new Error(`It did not come to that: ${JSON.stringify(report)}\n${this.summary}`);
      await sleep(10);
    }
  }

  /** All senders end their connections, and then themselves. */
  async stop(): Promise<Report> {
    const alive = this.senders.filter(({ isAlive }) => isAlive);
    await Promise.all(
      alive.map(async (sender) => {
        await sender.do({ do: "stop" });
        await sender.ended;
      }),
    );
    return this.until(0);
  }

  get summary(): string {
    const lines = this.senders.map(({ name, isAlive, counts: { granted, refused, lost, open, states } }) => {
      const numbers = JSON.stringify({ granted, refused, lost, open, states: states.join(" ") });
      return `${name}${isAlive ? "" : " (gone)"}: ${numbers}`;
    });
    return lines.join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of [...this.#children, this.#receiver]) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const exited = once(child, "exit");
      child.kill("SIGCONT");
      child.kill("SIGKILL");
      await exited;
    }
  }
}

/** Sums over all senders. */
export function sum(senders: readonly Sender[], count: (counts: Counts) => number): number {
  return senders.reduce((total, { counts }) => total + count(counts), 0);
}

/** What a run came to, where `CHAOS_FIGURES` names a file: a line a run. */
export function note(name: string, figures: Readonly<Record<string, unknown>>): void {
  const file = process.env["CHAOS_FIGURES"];
  if (file !== undefined) writeFileSync(file, `${name}: ${JSON.stringify(figures)}\n`, { flag: "a" });
}
