// Real Redis or Valkey servers for tests: one, or a cluster of three, on free ports of this machine, in folders of their
// own. They can be killed, frozen and started again; none of them outlives the process that started it.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { describe } from "vitest";
import { freePort } from "../../bench/free-port.js";

/** The server that PATH has. */
const PROGRAM = ["redis-server", "valkey-server"].find((program) => {
  try {
    execFileSync(program, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
});
const GIVEN = process.env["REDIS_URL"];

/** For tests that need a server, whichever: `REDIS_URL`, or one from PATH. Without any they are skipped; under CI, fail. */
export const describeRedis: Describe = describeWith(GIVEN ?? PROGRAM);
/** For tests that kill or freeze servers, or need several: only one from PATH will do. */
export const describeServer: Describe = describeWith(PROGRAM);

type Describe = typeof describe | typeof describe.skip;

function describeWith(server: string | undefined): Describe {
  if (server !== undefined) return describe;
  if (process.env["CI"]) throw new Error("No redis-server and no valkey-server in PATH");
  return describe.skip;
}

export interface StartOptions {
  /** More arguments, and those that override ours: `["--appendonly", "yes"]`. */
  readonly args?: readonly string[];
  /** @default a free one */
  readonly port?: number;
}

export interface RedisServer extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** Of the process that runs now, or ran last. */
  readonly pid: number;
  /** Ends it with SIGKILL: what was not written to disk is lost. */
  kill(): Promise<void>;
  /** Ends it with SIGTERM: it saves what it was told to save. */
  stop(): Promise<void>;
  /** Starts it again, on the same port and folder; kills it first where it runs. */
  restart(): Promise<void>;
  /** SIGSTOP: it keeps its connections, and answers nothing. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
  /** One command, over a connection of its own. */
  command(name: string, ...args: readonly (string | number)[]): Promise<unknown>;
}

/** `REDIS_URL`, or a server from PATH that ends when it is disposed of. */
export async function openRedis(): Promise<AsyncDisposable & { readonly url: string }> {
  if (GIVEN !== undefined) return { url: GIVEN, [Symbol.asyncDispose]: async () => {} };
  return startRedis();
}

/** Starts a server, without persistence unless `args` say so. It answers when this resolves. */
export async function startRedis(options: StartOptions = {}): Promise<RedisServer> {
  const port = options.port ?? (await freePort());
  const folder = mkdtempSync(join(tmpdir(), "outbound-limiter-redis-"));
  const fixed = ["--port", port, "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no"];
  const args = [...fixed.map(String), ...(options.args ?? [])];
  let child = await started(args, folder);

  const end = async (signal: "SIGKILL" | "SIGTERM"): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGCONT");
    child.kill(signal);
    await exited;
  };
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    get pid() {
      return Number(child.pid);
    },
    kill: () => end("SIGKILL"),
    stop: () => end("SIGTERM"),
    restart: async () => {
      await end("SIGKILL");
      child = await started(args, folder);
    },
    freeze: () => void child.kill("SIGSTOP"),
    thaw: () => void child.kill("SIGCONT"),
    command: (name, ...rest) => command(port, name, ...rest),
    [Symbol.asyncDispose]: async () => {
      await end("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** What to remove when this process exits, whatever the tests did. */
const running = new Map<ChildProcess, string>();
process.on("exit", () => {
  for (const [child, folder] of running) {
    child.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  }
});

async function started(args: readonly string[], folder: string): Promise<ChildProcess> {
  if (PROGRAM === undefined) throw new Error("No redis-server and no valkey-server in PATH");
  const child = spawn(PROGRAM, args, { stdio: ["ignore", "pipe", "pipe"] });
  running.set(child, folder);
  child.once("exit", () => running.delete(child));
  let said = "";
  await new Promise<void>((resolve, reject) => {
    const hear = (chunk: Buffer): void => {
      said += chunk.toString();
      if (said.includes("Ready to accept connections")) resolve();
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.once("error", reject);
    child.once("exit", (status) => reject(new Error(`${PROGRAM} ended with ${status}:\n${said}`)));
  });
  // From here on only read, so that it never blocks on a full pipe.
  for (const output of [child.stdout, child.stderr]) output.removeAllListeners("data").resume();
  return child;
}

export interface RedisNodes extends AsyncDisposable {
  readonly nodes: readonly RedisServer[];
}

/** Starts a cluster of three nodes without replicas, each with a third of the slots. All agree on it when this resolves. */
export async function startCluster(options: Pick<StartOptions, "args"> = {}): Promise<RedisNodes> {
  const busPorts = await Promise.all([freePort(), freePort(), freePort()]);
  const nodes = await Promise.all(
    busPorts.map((busPort) =>
      startRedis({
        args: [
          ...["--cluster-enabled", "yes", "--cluster-port", String(busPort), "--cluster-node-timeout", "2000"],
          ...["--cluster-announce-ip", "127.0.0.1", ...(options.args ?? [])],
        ],
      }),
    ),
  );
  const edges = [0, 5461, 10923, 16384];
  for (const [index, node] of nodes.entries()) {
    await node.command("CLUSTER", "SET-CONFIG-EPOCH", index + 1);
    await node.command("CLUSTER", "ADDSLOTSRANGE", Number(edges[index]), Number(edges[index + 1]) - 1);
  }
  for (const node of nodes) {
    for (const [index, other] of nodes.entries()) {
      if (other !== node) await node.command("CLUSTER", "MEET", "127.0.0.1", other.port, Number(busPorts[index]));
    }
  }
  for (const node of nodes) {
    while (!/cluster_state:ok.*cluster_known_nodes:3/s.test(String(await node.command("CLUSTER", "INFO")))) {
      await sleep(20);
    }
  }
  return {
    nodes,
    [Symbol.asyncDispose]: async () => {
      await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()));
    },
  };
}

async function command(port: number, name: string, ...args: readonly (string | number)[]): Promise<unknown> {
  const client = new Redis(port, "127.0.0.1", { lazyConnect: true, retryStrategy: () => null });
  try {
    await client.connect();
    return await client.call(name, ...args);
  } finally {
    client.disconnect();
  }
}
