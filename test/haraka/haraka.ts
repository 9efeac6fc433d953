// Real Haraka 3 in a process and a folder of its own, with the plugin as a user would install it. It ends with whoever
// started it.

import { fork } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFailed } from "vitest";
import type { LeaseInfo, Snapshot } from "../../src/index.js";
import type { Receiver } from "../smtp/receiver.js";

const ROOT = join(import.meta.dirname, "../..");
const HARAKA = createRequire(import.meta.url).resolve("Haraka/bin/haraka");

/** An MX of a domain, as Haraka's hook get_mx gives it. */
export interface Route {
  readonly exchange: string;
  readonly port: number;
  readonly priority?: number;
  /** Its name. */
  readonly from_dns?: string;
}

export const to = ({ address, port }: Receiver, more: Partial<Route> = {}): Route => ({
  ...{ exchange: address, port },
  ...more,
});

export interface HarakaOptions {
  /** The folder of the package outbound-limiter, built. */
  readonly limiter: string;
  readonly policy: string;
  /** By domain, the most preferred first. */
  readonly hosts: Readonly<Record<string, readonly Route[]>>;
  /** The source address of a sender, by the local part of its address. */
  readonly sources?: Readonly<Record<string, string>>;
  /** outbound.ini and outbound_limiter.ini. */
  readonly outbound?: string;
  readonly settings?: string;
}

export interface State {
  /** Recipients whose mail failed for good, and why. */
  readonly bounced: readonly { readonly rcpt: string; readonly error: string }[];
  /** Attempts that failed for now. */
  readonly deferred: number;
  /** In delivery / in delivery and waiting for it / waiting for another attempt. */
  readonly queue: string;
  readonly snapshot: Snapshot;
  readonly leases: readonly LeaseInfo[];
}

export interface Haraka extends AsyncDisposable {
  send(from: string, rcpts: readonly string[]): void;
  state(): Promise<State>;
  writePolicy(policy: string): void;
  /** What it has printed. */
  readonly log: string;
  /** Files in its queue: mail that it has to deliver yet. */
  readonly queued: readonly string[];
}

export async function startHaraka(options: HarakaOptions): Promise<Haraka> {
  const folder = mkdtempSync(join(tmpdir(), "outbound-limiter-haraka-"));
  const config = (name: string, text: string) => writeFileSync(join(folder, "config", name), `${text}\n`);
  for (const name of ["config", "plugins", "node_modules", "queue"]) mkdirSync(join(folder, name));
  symlinkSync(options.limiter, join(folder, "node_modules/outbound-limiter"), "junction");
  cpSync(join(ROOT, "bench/haraka/plugins"), join(folder, "plugins"), { recursive: true });
  cpSync(join(import.meta.dirname, "plugins"), join(folder, "plugins"), { recursive: true });
  config("plugins", "outbound_limiter\ntest_rig");
  config("smtp.ini", "listen=127.0.0.1:0\nnodes=0");
  config("me", "sender.example");
  config("loglevel", "notice");
  config("outbound.ini", `local_mx_ok=true\n${options.outbound ?? ""}`);
  config("outbound_limiter.ini", options.settings ?? "");
  config("outbound_limiter.conf", options.policy);
  config("routes.json", JSON.stringify({ hosts: options.hosts, sources: options.sources ?? {} }));

  const child = fork(HARAKA, ["-c", folder], { stdio: ["ignore", "pipe", "pipe", "ipc"] });
  let log = "";
  for (const output of [child.stdout!, child.stderr!]) output.on("data", (chunk) => (log += chunk));
  onTestFailed(() => {
    process.stderr.write(log.slice(-20_000));
  });
  const answers = new Map<unknown, (answer: State) => void>();
  child.on("message", (message: State & { readonly id: unknown }) => answers.get(message.id)?.(message));
  const exited = once(child, "exit");
  let asked = 0;
  const ended = async (): Promise<void> => {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await exited;
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await new Promise<void>((resolve, reject) => {
      answers.set("ready", () => resolve());
      child.once("exit", (status) => reject(new Error(`Haraka ended with ${status}:\n${log}`)));
    });
  } catch (error) {
    await ended();
    throw error;
  }
  return {
    send: (from, rcpts) => void child.send({ ask: "send", from, rcpts }),
    state: () =>
      new Promise((resolve) => {
        const id = asked++;
        answers.set(id, (answer) => {
          answers.delete(id);
          resolve(answer);
        });
        child.send({ ask: "state", id });
      }),
    writePolicy: (policy) => config("outbound_limiter.conf", policy),
    get log() {
      return log;
    },
    get queued() {
      return existsSync(folder) ? readdirSync(join(folder, "queue")) : [];
    },
    [Symbol.asyncDispose]: ended,
  };
}
