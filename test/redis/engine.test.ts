// redisCluster and its engine on real servers: options, what becomes of messages, servers that are not to be trusted.

import { Redis } from "ioredis";
import { createClient } from "redis";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { Push, Reply, Statement } from "../../src/cluster/engine.js";
import { RedisEngine } from "../../src/cluster/redis.js";
import { isLimiterError } from "../../src/index.js";
import { redisCluster } from "../../src/redis.js";
import { LIBRARIES, type Opened } from "./libraries.js";
import { describeServer, type RedisNodes, type RedisServer, startCluster, startRedis } from "./server.js";

const TTL = 2_000;

/** A process, as far as an engine knows it. */
class Process implements Disposable {
  readonly engine: RedisEngine;
  readonly member: string;
  readonly heard: Push[] = [];
  readonly #hearing: Disposable;
  #sequence = 0;
  #epoch = "";

  constructor(client: object, member: string, isNew = true) {
    this.engine = new RedisEngine(client, { prefix: "test", ttl: TTL, isNew });
    this.member = member;
    this.#hearing = this.engine.listen(member, (push) => this.heard.push(push));
  }

  async state(statement: Partial<Statement>): Promise<Reply> {
    const reply = await this.engine.state({
      member: this.member,
      label: `label of ${this.member}`,
      sequence: ++this.#sequence,
      epoch: this.#epoch,
      full: this.#sequence === 1,
      beat: false,
      leave: false,
      holds: new Map(),
      asks: [],
      members: 0,
      ...statement,
    });
    if (reply.status !== "stale") this.#epoch = reply.epoch;
    return reply;
  }

  /** Asks for a slot of a counter that has one. */
  async ask(key: string, count = 1): Promise<Reply> {
    return this.state({ asks: [{ id: 7, count, slots: [{ key, limit: 1 }] }] });
  }

  async hears({ kind }: Push): Promise<void> {
    await vi.waitUntil(() => this.heard.some((push) => push.kind === kind), { timeout: 10_000 });
  }

  [Symbol.dispose](): void {
    this.#hearing[Symbol.dispose]();
  }
}

/** Two processes, of which the second gets what the first gives back. */
async function handOver(one: Process, other: Process): Promise<void> {
  expect(await one.ask("a counter")).toMatchObject({ status: "ok", granted: [7], learning: 0 });
  // Each begins to listen, and is told so.
  await one.hears({ kind: "missed" });
  expect(await other.ask("a counter")).toMatchObject({ status: "ok", granted: [] });
  await one.hears({ kind: "recall", key: "a counter" });
  expect(one.heard).toContainEqual({ kind: "recall", key: "a counter" });
  expect(other.heard).not.toContainEqual({ kind: "recall", key: "a counter" });
  await other.hears({ kind: "missed" });
  // Once more, so that it is known that it listens.
  await other.state({});
  other.heard.length = 0;
  await one.state({ holds: new Map([["a counter", 0]]) });
  await other.hears({ kind: "granted" });
  expect(await other.state({})).toMatchObject({ status: "ok", granted: [7] });
  const [first, second] = await one.engine.members();
  expect(first).toMatchObject({ id: "one", label: "label of one", holds: new Map() });
  expect(second).toMatchObject({ id: "other", holds: new Map([["a counter", 1]]) });
  await one.state({ leave: true });
  await other.state({ leave: true });
}

describeServer("the engine on one server", () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  it.each(LIBRARIES)("hands over from process to process: $name", async (library) => {
    using client = await library.open(server.url);
    using one = new Process(client.client, "one");
    using other = new Process(client.client, "other");
    await handOver(one, other);
  });

  it("hands over where the client puts a prefix of its own before the keys", async () => {
    const redis = new Redis(server.url, { keyPrefix: "mine:" });
    {
      using one = new Process(redis, "one");
      using other = new Process(redis, "other");
      await handOver(one, other);
    }
    redis.disconnect();
  });

  it("leaves nothing that does not expire", async () => {
    for (const key of (await server.command("KEYS", "*")) as string[]) {
      expect(await server.command("PTTL", key)).toBeGreaterThan(0);
    }
  });

  it("gives back what a silent process held", async () => {
    const redis = new Redis(server.url);
    {
      using silent = new Process(redis, "silent");
      using other = new Process(redis, "other");
      expect(await silent.ask("a counter")).toMatchObject({ granted: [7] });
      expect(await other.ask("a counter")).toMatchObject({ granted: [] });
      await vi.waitFor(async () => expect(await other.state({ beat: true })).toMatchObject({ expired: ["silent"] }), {
        timeout: 4 * TTL,
        interval: TTL / 10,
      });
      await other.engine.reap("silent");
      expect(await other.ask("a counter")).toMatchObject({ granted: [7] });
      await other.state({ leave: true });
    }
    redis.disconnect();
  });

  it("works without messages, through a function", async () => {
    const redis = new Redis(server.url);
    const run = async (script: string, keys: readonly string[], args: readonly string[]) =>
      redis.eval(script, keys.length, ...keys, ...args);
    {
      using one = new Process(run, "one");
      using other = new Process(run, "other");
      expect(await one.ask("a counter")).toMatchObject({ granted: [7] });
      expect(await other.ask("a counter")).toMatchObject({ granted: [] });
      await one.state({ holds: new Map([["a counter", 0]]) });
      expect(await other.state({ beat: true })).toMatchObject({ granted: [7] });
      expect(other.heard).toEqual([]);
      await one.state({ leave: true });
      await other.state({ leave: true });
    }
    redis.disconnect();
  });
});

describeServer("the engine on a cluster of three", () => {
  let cluster: RedisNodes;
  beforeAll(async () => {
    cluster = await startCluster();
  });
  afterAll(async () => {
    await cluster[Symbol.asyncDispose]();
  });

  it.each(LIBRARIES)("hands over from process to process: $name", async (library) => {
    const urls = cluster.nodes.map(({ url }) => url);
    using client = await library.openCluster(urls);
    using one = new Process(client.client, "one");
    using other = new Process(client.client, "other");
    await handOver(one, other);
  });
});

describeServer("a server", () => {
  const open = async (args: readonly string[]): Promise<AsyncDisposable & { server: RedisServer; opened: Opened }> => {
    const server = await startRedis({ args });
    const opened = await (LIBRARIES[0] as (typeof LIBRARIES)[number]).open(server.url);
    return {
      server,
      opened,
      [Symbol.asyncDispose]: async () => {
        opened[Symbol.dispose]();
        await server[Symbol.asyncDispose]();
      },
    };
  };

  it("that may drop counts is refused, until it does so no longer", async () => {
    await using here = await open(["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    using one = new Process(here.opened.client, "one");
    for (const call of [() => one.ask("a"), () => one.engine.members(), () => one.engine.reap("other")]) {
      const error: unknown = await call().then(null, (reason: unknown) => reason);
      expect(isLimiterError(error) && error.code === "ERR_LIMITER_CLUSTER").toBe(true);
      expect(String(error)).toContain("maxmemory-policy allkeys-lru");
    }
    expect(await here.server.command("DBSIZE")).toBe(0);
    await here.server.command("CONFIG", "SET", "maxmemory-policy", "noeviction");
    expect(await one.state({ full: true })).toMatchObject({ status: "ok" });
  });

  it("without a limit of its memory drops nothing, whatever its policy", async () => {
    await using here = await open(["--maxmemory", "0", "--maxmemory-policy", "allkeys-lru"]);
    using one = new Process(here.opened.client, "one");
    expect(await one.ask("a")).toMatchObject({ status: "ok" });
  });

  it("that was put in the place of another is looked at again", async () => {
    await using here = await open(["--maxmemory", "100mb"]);
    using one = new Process(here.opened.client, "one");
    await one.ask("a");
    await one.ask("a");
    await here.server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu");
    await one.ask("a");
    await here.server.command("SCRIPT", "FLUSH");
    await one.ask("a");
    await expect(one.ask("a")).rejects.toThrow("allkeys-lfu");
  });

  it("may forbid INFO, CONFIG and messages", async () => {
    await using here = await open([]);
    await here.server.command(
      "ACL",
      "SETUSER",
      "poor",
      "on",
      ">poor",
      "~{test}*",
      "resetchannels",
      "+@all",
      "-info",
      "-config",
    );
    const url = here.server.url.replace("//", "//poor:poor@");
    const client = createClient({ url });
    client.on("error", () => {});
    await client.connect();
    {
      using one = new Process(client, "one");
      using other = new Process(client, "other");
      expect(await one.ask("a")).toMatchObject({ status: "ok", granted: [7] });
      expect(await other.ask("a")).toMatchObject({ status: "ok", granted: [] });
      await one.state({ holds: new Map([["a", 0]]) });
      expect(await other.state({})).toMatchObject({ status: "ok", granted: [7] });
    }
    client.destroy();
  });

  it("that lost its scripts and forbids INFO counts as restarted", async () => {
    await using here = await open([]);
    await here.server.command("ACL", "SETUSER", "poor", "on", ">poor", "~*", "&*", "+@all", "-info");
    const client = createClient({ url: here.server.url.replace("//", "//poor:poor@") });
    await client.connect();
    {
      using one = new Process(client, "one");
      expect(await one.ask("a")).toMatchObject({ status: "ok", learning: 0 });
      await here.server.command("SCRIPT", "FLUSH");
      expect(await one.state({})).toMatchObject({ status: "unknown" });
      expect(await one.state({ full: true })).toMatchObject({ status: "ok", learning: expect.closeTo(TTL, -3) });
    }
    client.destroy();
  });

  it("that is gone is an error, and no more than that", async () => {
    await using here = await open([]);
    using one = new Process(here.opened.client, "one");
    await here.server.kill();
    await expect(one.ask("a")).rejects.toThrow(Error);
    await here.server.restart();
    await vi.waitFor(async () => expect(await one.state({ full: true })).toMatchObject({ status: "ok" }), {
      timeout: 20_000,
    });
    await one.hears({ kind: "missed" });
  });
});

describe("redisCluster", () => {
  const run = async (): Promise<unknown> => {
    throw new Error("not called");
  };

  it("says what it is, and connects to nothing", () => {
    expect(redisCluster(run).kind).toBe("redis");
    expect(redisCluster(run, { prefix: "mta", ttl: 500, whenDown: "share", isNew: true, watchdog: false }).kind).toBe(
      "redis",
    );
  });

  it.each<[string, object, new (message: string) => Error, string]>([
    ["an empty prefix", { prefix: "" }, RangeError, 'not ""'],
    ["a prefix with a brace", { prefix: "a{b" }, RangeError, 'not "a{b"'],
    ["a prefix that is no string", { prefix: 1 }, TypeError, "prefix must be a string"],
    ["a ttl that is too short", { ttl: 499 }, RangeError, "not 499"],
    ["a ttl of part of a millisecond", { ttl: 1000.5 }, RangeError, "not 1000.5"],
    ["a ttl without an end", { ttl: Number.POSITIVE_INFINITY }, RangeError, "not Infinity"],
    ["another whenDown", { whenDown: "wait" }, TypeError, "whenDown must be"],
    ["an isNew that is no boolean", { isNew: "yes" }, TypeError, "isNew must be true or false"],
    ["a watchdog that is no boolean", { watchdog: 1 }, TypeError, "watchdog must be true or false"],
    ["an option that does not exist", { tll: 1000 }, TypeError, "Unknown redisCluster option tll"],
  ])("does not take %s", (_, options, kind, message) => {
    const make = () => redisCluster(run, options);
    expect(make).toThrow(kind);
    expect(make).toThrow(message);
  });

  it("does not take what is no client", () => {
    expect(() => redisCluster(null as unknown as object)).toThrow(TypeError);
    expect(() => redisCluster({})).toThrow("another object is neither");
  });
});
