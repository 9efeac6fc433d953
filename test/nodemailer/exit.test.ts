// A process that exits in the middle of its mail: the slots that it had of the cluster come back, after its connections
// have ended.

import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { Redis } from "ioredis";
import { expect, it, onTestFinished, vi } from "vitest";
import { createLimiter, parsePolicy } from "../../src/index.js";
import { redisCluster } from "../../src/redis.js";
import { describeServer, startRedis } from "../redis/server.js";
import { startReceiver } from "../smtp/receiver.js";

describeServer("a process that exits", { timeout: 60_000 }, () => {
  it.each(["plain", "pooled"])("leaves its slots to others, with a %s transport", async (kind) => {
    await using redis = await startRedis();
    await using receiver = await startReceiver("127.0.0.1", { look: 60_000 });
    const client = new Redis(redis.url);
    onTestFinished(() => client.disconnect());
    const policy = parsePolicy("cluster_server_max_outbound_connections = 2");
    const limiter = createLimiter(policy, { cluster: redisCluster(client, { ttl: 3000, isNew: true }) });
    (await limiter.acquire({ domain: "example.com" })).release();

    const sender = fork(join(import.meta.dirname, "sender.ts"), [redis.url, String(receiver.port), kind], {
      execArgv: ["--import", "tsx"],
    });
    onTestFinished(() => void sender.kill("SIGKILL"));
    await vi.waitFor(() => expect(receiver.open.get("127.0.0.1")).toBe(2), 30_000);
    const waiting = [limiter.acquire({ domain: "example.com" }), limiter.acquire({ domain: "example.com" })];
    await expect(limiter.acquire({ domain: "example.com" }, { timeout: 4000 })).rejects.toThrow("2 of 2 in use");

    sender.send("exit");
    const openThen = waiting.map(async (lease) => {
      const { release } = await lease;
      return { release, open: receiver.open.get("127.0.0.1") };
    });
    const leases = await Promise.all(openThen);
    expect(leases.map(({ open }) => open)).toEqual([0, 0]);
    await expect(limiter.acquire({ domain: "example.com" }, { timeout: 0 })).rejects.toThrow("2 of 2 in use");
    for (const { release } of leases) release();
    await limiter.close();
    if (sender.exitCode === null) await once(sender, "exit");
    expect(sender.exitCode).toBe(0);
  });
});
