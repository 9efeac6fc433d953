// Each client for real: scripts, messages, deadlines and outages, on one server and on a cluster of three.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { createClient, createClientPool, RESP_TYPES } from "redis";
import { createClient as createClient4 } from "redis4";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { Client } from "../../src/cluster/clients.js";
import { LIBRARIES, type Opened } from "./libraries.js";
import { describeServer, type RedisNodes, type RedisServer, startCluster, startRedis } from "./server.js";

const ECHO = "redis.call('INCR', KEYS[1]) return { KEYS[1], ARGV[1], #ARGV }";
const DEADLINE = 400;

/** What a listener is told. */
function listen(client: Client, channels: readonly string[]) {
  const heard: string[] = [];
  let begun = 0;
  const listening = client.listen(channels, {
    message: (channel, text) => heard.push(`${channel}: ${text}`),
    begin: () => {
      begun++;
    },
  });
  return { heard, listening, begun: () => begun };
}

/** Runs a script until the client is connected again. */
async function callAgain(client: Client): Promise<unknown> {
  return vi.waitFor(async () => client.call("return 'back'", ["{again}"], () => []), {
    timeout: 20_000,
    interval: 100,
  });
}

async function exits(...args: readonly string[]): Promise<string> {
  const file = join(import.meta.dirname, "exits.ts");
  const { stdout } = await promisify(execFile)(process.execPath, ["--import", "tsx", file, ...args], {
    timeout: 20_000,
  });
  return stdout;
}

describeServer.each(LIBRARIES)("$name on one server", (library) => {
  let server: RedisServer;
  let opened: Opened;
  let client: Client;
  beforeAll(async () => {
    server = await startRedis();
    opened = await library.open(server.url);
    client = new Client(opened.client, DEADLINE);
  });
  afterAll(async () => {
    opened[Symbol.dispose]();
    await server[Symbol.asyncDispose]();
  });

  it("runs a script, and answers with texts alone", async () => {
    expect(await client.call(ECHO, ["{echo}"], () => ["ü \n", ""])).toEqual(["{echo}", "ü \n", "2"]);
  });

  it("says when the server did not know the script", async () => {
    const fresh: boolean[] = [];
    const call = async () =>
      client.call(ECHO, ["{fresh}"], (isFresh) => {
        fresh.push(isFresh);
        return [String(isFresh)];
      });
    await call();
    fresh.length = 0;
    await server.command("SCRIPT", "FLUSH");
    expect(await call()).toEqual(["{fresh}", "true", "1"]);
    expect(await call()).toEqual(["{fresh}", "false", "1"]);
    expect(fresh).toEqual([false, true, false]);
  });

  it("passes on what is wrong with a script", async () => {
    await expect(client.call("return redis.error_reply('ERR no such thing')", ["{error}"], () => [])).rejects.toThrow(
      "no such thing",
    );
  });

  it("hears what is published, until it ends", async () => {
    const { heard, listening, begun } = listen(client, ["one", "two"]);
    await vi.waitFor(() => expect(begun()).toBe(1));
    expect(listening?.active).toBe(true);
    expect(client.countsListeners).toBe(true);
    const publish = "return redis.call('PUBLISH', ARGV[1], ARGV[2])";
    expect(await client.call(publish, ["{a}"], () => ["one", "1"])).toBe("1");
    expect(await client.call(publish, ["{a}"], () => ["two", "2"])).toBe("1");
    await vi.waitFor(() => expect(heard).toEqual(["one: 1", "two: 2"]));

    listening?.[Symbol.dispose]();
    expect(listening?.active).toBe(false);
    await vi.waitFor(async () => expect(await client.call(publish, ["{a}"], () => ["one", "3"])).toBe("0"));
    expect(heard).toEqual(["one: 1", "two: 2"]);
    expect(await server.command("CLIENT", "LIST")).not.toContain("cmd=subscribe");
  });

  it("leaves no connection when it ends before it has begun", async () => {
    const connections = async () =>
      String(await server.command("CLIENT", "LIST"))
        .trim()
        .split("\n").length;
    const before = await connections();
    for (let i = 0; i < 5; i++) {
      const { listening } = listen(client, ["early"]);
      for (let turn = 0; turn < i; turn++) await new Promise(setImmediate);
      listening?.[Symbol.dispose]();
    }
    await vi.waitFor(async () => expect(await connections()).toBeLessThanOrEqual(before), { timeout: 5_000 });
  });

  it("gives a frozen server no longer than the deadline, and a bounded number of calls", async () => {
    await client.call(ECHO, ["{frozen}"], () => [""]);
    server.freeze();
    try {
      await expect(client.call(ECHO, ["{frozen}"], () => [""])).rejects.toThrow("did not answer within 400 ms");
      await Promise.allSettled(Array.from({ length: 7 }, async () => client.call(ECHO, ["{frozen}"], () => [""])));
      await expect(client.call(ECHO, ["{frozen}"], () => [""])).rejects.toThrow("last 8 calls without an answer");
    } finally {
      server.thaw();
    }
    await expect(callAgain(client)).resolves.toBe("back");
  });

  it("is back when the server is, and listens again", async () => {
    const { heard, listening, begun } = listen(client, ["again"]);
    await vi.waitFor(() => expect(begun()).toBe(1));
    await server.kill();
    await expect(client.call(ECHO, ["{killed}"], () => [""])).rejects.toThrow(Error);
    await vi.waitFor(() => expect(listening?.active).toBe(false));
    await server.restart();
    await expect(callAgain(client)).resolves.toBe("back");
    await vi.waitFor(() => expect(begun()).toBeGreaterThan(1), { timeout: 20_000 });
    expect(listening?.active).toBe(true);
    await server.command("PUBLISH", "again", "heard");
    await vi.waitFor(() => expect(heard).toEqual(["again: heard"]));
    listening?.[Symbol.dispose]();
  });

  it("keeps no process running once it is closed", async () => {
    await expect(exits(library.name, "one", "0", server.url)).resolves.toBe("closed\n");
  });

  it("keeps no process running that was connecting to a frozen server", async () => {
    try {
      await expect(exits(library.name, "one", String(server.pid), server.url)).resolves.toBe("closed\n");
    } finally {
      server.thaw();
    }
  });
});

describeServer("on a cluster of three", () => {
  let cluster: RedisNodes;
  beforeAll(async () => {
    cluster = await startCluster();
  });
  afterAll(async () => {
    await cluster[Symbol.asyncDispose]();
  });

  describe.each(LIBRARIES)("$name", (library) => {
    let opened: Opened;
    let client: Client;
    beforeAll(async () => {
      opened = await library.openCluster(cluster.nodes.map(({ url }) => url));
      client = new Client(opened.client, 2_000);
    });
    afterAll(() => opened[Symbol.dispose]());
    /** Their slots are on the first, the second and the third node. */
    const keys = ["{b}", "{c}", "{a}"];

    it("runs a script where its keys are, and loads it on each node that does not know it", async () => {
      for (const node of cluster.nodes) await node.command("SCRIPT", "FLUSH");
      for (const key of keys) {
        const fresh = async () => client.call(ECHO, [key, `${key}:2`], (isFresh) => [String(isFresh)]);
        expect(await fresh()).toEqual([key, "true", "1"]);
        expect(await fresh()).toEqual([key, "false", "1"]);
      }
      const used = await Promise.all(cluster.nodes.map(async (node) => node.command("DBSIZE")));
      expect(used).toEqual([1, 1, 1]);
    });

    it("hears what a script publishes on any node, whichever it listens to", async () => {
      const listeners = Array.from({ length: 6 }, () => listen(client, ["news"]));
      await vi.waitFor(() => expect(listeners.every(({ begun }) => begun() === 1)).toBe(true), { timeout: 10_000 });
      expect(client.countsListeners).toBe(false);
      for (const key of keys) {
        await client.call("redis.call('PUBLISH', 'news', KEYS[1])", [key], () => []);
      }
      await vi.waitFor(() => {
        for (const { heard } of listeners) expect([...heard].sort()).toEqual(["news: {a}", "news: {b}", "news: {c}"]);
      });
      for (const { listening } of listeners) listening?.[Symbol.dispose]();
      const listening = "return redis.call('PUBSUB', 'NUMSUB', 'news')[2]";
      for (const key of keys)
        await vi.waitFor(async () => expect(await client.call(listening, [key], () => [])).toBe("0"));
    });

    it("keeps no process running once it is closed", async () => {
      const urls = cluster.nodes.map(({ url }) => url);
      await expect(exits(library.name, "cluster", "0", ...urls)).resolves.toBe("closed\n");
    });
  });
});

describeServer("clients", () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  it("may be a function", async () => {
    const redis = new Redis(server.url);
    const client = new Client(
      async (script: string, keys: readonly string[], args: readonly string[]) =>
        redis.eval(script, keys.length, ...keys, ...args),
      DEADLINE,
    );
    expect(await client.call(ECHO, ["{function}"], (fresh) => [String(fresh)])).toEqual(["{function}", "false", "1"]);
    expect(client.listen(["one"], { message: () => {}, begin: () => {} })).toBeUndefined();
    expect(client.countsListeners).toBe(false);
    redis.disconnect();
  });

  it("may be a function that throws, or answers never", async () => {
    const thrower = new Client(() => {
      throw new Error("no luck");
    }, DEADLINE);
    await expect(thrower.call(ECHO, ["{a}"], () => [])).rejects.toThrow("no luck");
    const silent = new Client(() => new Promise(() => {}), 20);
    await expect(silent.call(ECHO, ["{a}"], () => [])).rejects.toThrow("did not answer within 20 ms");
  });

  it("may be a pool, which runs scripts but has no way to listen", async () => {
    const pool = createClientPool({ url: server.url });
    await pool.connect();
    const client = new Client(pool, DEADLINE);
    expect(await client.call("return KEYS[1]", ["{pool}"], () => [])).toBe("{pool}");
    expect(client.listen(["one"], { message: () => {}, begin: () => {} })).toBeUndefined();
    pool.destroy();
  });

  it("may have options of their own: a prefix, no queue, other types, a database", async () => {
    const redis = new Redis(server.url, {
      keyPrefix: "mine:",
      enableOfflineQueue: false,
      autoResubscribe: false,
      lazyConnect: true,
      stringNumbers: true,
      db: 3,
    });
    await redis.connect();
    const client = new Client(redis, DEADLINE);
    expect(await client.call(ECHO, ["{options}"], () => [""])).toEqual(["mine:{options}", "", "1"]);
    const { heard, listening, begun } = listen(client, ["options"]);
    await vi.waitFor(() => expect(begun()).toBe(1));
    await server.command("PUBLISH", "options", "heard");
    await vi.waitFor(() => expect(heard).toEqual(["options: heard"]));
    listening?.[Symbol.dispose]();
    redis.disconnect();
  });

  it.each([2, 3] as const)("may answer with buffers, by version %i of the protocol", async (RESP) => {
    const redis = createClient({ url: server.url, RESP });
    redis.on("error", () => {});
    await redis.connect();
    const client = new Client(redis.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }), DEADLINE);
    expect(await client.call(ECHO, ["{buffers}"], () => ["ü"])).toEqual(["{buffers}", "ü", "1"]);
    const { heard, listening, begun } = listen(client, ["buffers"]);
    await vi.waitFor(() => expect(begun()).toBe(1));
    await server.command("PUBLISH", "buffers", "ü");
    await vi.waitFor(() => expect(heard).toEqual(["buffers: ü"]));
    listening?.[Symbol.dispose]();
    redis.destroy();
  });

  it("may be closed by their user, and connected later", async () => {
    const redis = createClient({ url: server.url });
    const client = new Client(redis, DEADLINE);
    await expect(client.call(ECHO, ["{later}"], () => [""])).rejects.toThrow(/closed/i);
    await redis.connect();
    expect(await client.call(ECHO, ["{later}"], () => [""])).toEqual(["{later}", "", "1"]);
    redis.destroy();
    await expect(client.call(ECHO, ["{later}"], () => [""])).rejects.toThrow(/closed/i);
  });

  it.concurrent.each([
    ["ioredis", (url: string) => new Redis(url, { retryStrategy: () => null })],
    ["redis 6", (url: string) => createClient({ url, socket: { reconnectStrategy: false } })],
    ["redis 4", (url: string) => createClient4({ url, socket: { reconnectStrategy: false } })],
  ])("may give up, and are listened to again nevertheless: %s", async (_, open) => {
    await using brief = await startRedis();
    const client = new Client(open(brief.url), DEADLINE);
    const { heard, listening, begun } = listen(client, ["given up"]);
    await vi.waitFor(() => expect(begun()).toBe(1));
    await brief.restart();
    await vi.waitFor(() => expect(listening?.active).toBe(false));
    await vi.waitFor(() => expect(begun()).toBe(2), { timeout: 20_000 });
    await brief.command("PUBLISH", "given up", "heard");
    await vi.waitFor(() => expect(heard).toEqual(["given up: heard"]));
    listening?.[Symbol.dispose]();
  });

  it("keep their passwords to themselves", async () => {
    await using locked = await startRedis({ args: ["--requirepass", "right"] });
    const redis = new Redis(locked.url.replace("//", "//:wrong-secret@"));
    redis.on("error", () => {});
    const client = new Client(redis, DEADLINE);
    const error: unknown = await client.call(ECHO, ["{locked}"], () => [""]).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(Error);
    expect(String((error as Error).stack) + JSON.stringify(error)).not.toContain("wrong-secret");
    redis.disconnect();
  });

  it.each([
    ["nothing", undefined, "undefined is neither"],
    ["null", null, "null is neither"],
    ["an address", "redis://localhost", "string is neither"],
    ["some other object", {}, "another object is neither"],
    ["redis 4 in legacy mode", createClient4({ legacyMode: true }), "legacy mode"],
    ["the legacy client of redis", createClient().legacy(), "legacy mode"],
  ])("may not be %s", (_, client, message) => {
    expect(() => new Client(client, DEADLINE)).toThrow(TypeError);
    expect(() => new Client(client, DEADLINE)).toThrow(message);
  });

  it("may not be subscribed to channels, where that leaves no room for scripts", async () => {
    const redis = new Redis(server.url);
    await redis.subscribe("one");
    expect(() => new Client(redis, DEADLINE)).toThrow(/subscriber mode/);
    redis.disconnect();
    const redis4 = createClient4({ url: server.url });
    await redis4.connect();
    await redis4.subscribe("one", () => {});
    expect(() => new Client(redis4, DEADLINE)).toThrow(/subscribed/);
    await redis4.disconnect();
  });
});
