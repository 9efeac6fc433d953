// redis.ts: a Redis or Valkey for the cluster demo, from PATH, on a free port. It keeps nothing, and ends with the demo.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { Redis } from "ioredis";
import { freePort } from "../free-port.js";

export interface Engine {
  readonly program: string;
  readonly port: number;
  /** Connected. */
  readonly client: Redis;
  close(): Promise<void>;
}

export async function startRedis(): Promise<Engine> {
  const port = await freePort();
  const [program, server] = await startProgram(["--port", `${port}`, "--bind", "127.0.0.1", "--save", ""]);
  const kill = () => server.kill("SIGKILL");
  process.on("exit", kill);
  const exit = once(server, "exit");
  const client = new Redis(port, { retryStrategy: () => 50, maxRetriesPerRequest: null });
  client.on("error", () => {}); // it is not there yet
  const ended = exit.then(([status]) => {
    throw new Error(`${program} ended with ${status}`);
  });
  try {
    await Promise.race([client.ping(), ended]);
  } catch (error) {
    client.disconnect();
    throw error;
  }
  return {
    program,
    port,
    client,
    async close() {
      client.disconnect();
      kill();
      await exit;
      process.off("exit", kill);
    },
  };
}

async function startProgram(args: readonly string[]): Promise<[program: string, server: ChildProcess]> {
  for (const program of ["redis-server", "valkey-server"]) {
    const server = spawn(program, args, { stdio: "ignore" });
    try {
      await once(server, "spawn");
      return [program, server];
    } catch {
      // There is none of that name.
    }
  }
  throw new Error("The cluster demo needs redis-server (7 or newer) or valkey-server in PATH");
}
