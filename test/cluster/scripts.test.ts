// What the scripts do that the ledger need not: restarts, lost keys, real time, many counters. On a real server.

import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type Ask, MOST_TOLD, type Reply, type Statement } from "../../src/cluster/engine.js";
import { Ledger } from "../../src/cluster/ledger.js";
import { MEMBERS, REAP, SYNC } from "../../src/cluster/scripts.js";
import {
  type Call,
  type Circumstances,
  channelsOf,
  membersCall,
  type NameSpace,
  parseMembers,
  parsePush,
  parseReap,
  parseReply,
  reapCall,
  statementCall,
} from "../../src/cluster/wire.js";
import { describeServer, type RedisServer, startRedis } from "../redis/server.js";

/** Long: what a test does takes less. */
const LONG = 60_000;
/** Short: a test waits for it. */
const SHORT = 300;

type Ok = Extract<Reply, { status: "ok" }>;

describeServer("the scripts on a server", () => {
  let server: RedisServer;
  let client: Redis;
  beforeAll(async () => {
    server = await startRedis();
    client = new Redis(server.url);
    // It is restarted; the client comes back by itself.
    client.on("error", () => {});
  });
  afterAll(async () => {
    client.disconnect();
    await server[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await client.flushall();
  });

  const SPACE: NameSpace = { prefix: "test", ttl: LONG, isNew: true };
  const AROUND: Circumstances = { isFresh: false, isTrusted: true, listens: false };

  const run = (script: string, { keys, args }: Call, by = client): Promise<unknown> =>
    by.eval(script, keys.length, ...keys, ...args);

  class Member {
    readonly id: string;
    readonly #space: NameSpace;
    epoch = "";
    sequence = 0;

    constructor(id: string, space: Partial<NameSpace> = {}) {
      this.id = id;
      this.#space = { ...SPACE, ...space };
    }

    async state(statement: Partial<Statement> = {}, around: Partial<Circumstances> = {}, by = client): Promise<Reply> {
      const all: Statement = {
        member: this.id,
        label: `host ${this.id}`,
        sequence: ++this.sequence,
        epoch: this.epoch,
        full: false,
        beat: false,
        leave: false,
        holds: new Map(),
        asks: [],
        members: 0,
        ...statement,
      };
      const reply = parseReply(await run(SYNC, statementCall(all, this.#space, { ...AROUND, ...around }), by));
      if (reply.status !== "stale") this.epoch = reply.epoch;
      return reply;
    }

    async ok(statement: Partial<Statement> = {}, around: Partial<Circumstances> = {}): Promise<Ok> {
      const reply = await this.state(statement, around);
      if (reply.status !== "ok") throw new Error(`status ${reply.status}`);
      return reply;
    }

    full(holds: Record<string, number> = {}): Promise<Ok> {
      return this.ok({ full: true, holds: new Map(Object.entries(holds)) });
    }

    async reap(member: string): Promise<boolean> {
      return parseReap(await run(REAP, reapCall(member, this.#space, AROUND)));
    }
  }

  async function join(id: string, holds: Record<string, number> = {}, space: Partial<NameSpace> = {}): Promise<Member> {
    const member = new Member(id, space);
    await member.full(holds);
    return member;
  }

  const wish = (id: number, count: number, slots: Record<string, number>): Ask => {
    return { id, count, slots: Object.entries(slots).map(([key, limit]) => ({ key, limit })) };
  };
  const totals = async (): Promise<Record<string, string>> => {
    const fields = Object.entries(await client.hgetall("{test}"));
    return Object.fromEntries(
      fields.flatMap(([name, value]) => (name.startsWith("t:") ? [[name.slice(2), value]] : [])),
    );
  };
  async function until(holds: () => Promise<boolean>): Promise<void> {
    while (!(await holds())) await sleep(10);
  }

  // ── Epochs ──

  test("a state that may not be new is learned for a ttl, and then grants", async () => {
    const a = new Member("a", { isNew: false, ttl: SHORT });
    expect((await a.full({ X: 2 })).learning).toBe(SHORT);
    expect(await a.ok({ asks: [wish(1, 1, { X: 3 })] })).toMatchObject({ granted: [] });
    expect(await client.hget("{test}", "q:X")).toBeNull();
    await until(async () => (await a.ok()).learning === 0);
    expect((await a.ok({ asks: [wish(1, 1, { X: 3 })] })).granted).toEqual([1]);
    expect(await totals()).toEqual({ X: "3" });
  });

  test.each<[string, () => Promise<unknown>]>([
    ["a state that is gone", () => client.del("{test}")],
    ["a state of another server, or of before its restart", () => client.hset("{test}", "run", "another")],
    ["what a member holds is gone", () => client.del("{test}:a")],
    ["what a member holds is of another epoch", () => client.hset("{test}:a", "", "another")],
  ])("%s: a new epoch, in which holdings are stated again first", async (_, lose) => {
    const a = await join("a", { X: 2, Y: 1 });
    const { epoch } = a;
    await lose();
    expect((await a.state()).status).toBe("unknown");
    expect(a.epoch).not.toBe(epoch);
    expect(await totals()).toEqual({});
    const reply = await a.ok({ full: true, holds: new Map([["X", 1]]), asks: [wish(1, 1, { X: 9 })] });
    expect(reply.learning).toBeGreaterThan(0);
    expect(reply).toMatchObject({ granted: [], members: ["a"] });
    expect(await totals()).toEqual({ X: "1" });
    expect(await client.hgetall("{test}:a")).toEqual({ "": a.epoch, X: "1" });
  });

  test("a restart is seen, with the data and without", async () => {
    const a = await join("a", { X: 2 });
    const run = await client.hget("{test}", "run");
    await client.hset("{test}", "learn", 0);
    const data = await client.dumpBuffer("{test}");
    await server.restart();
    await client.restore("{test}", 0, data);
    expect(await client.hget("{test}", "run")).toBe(run);
    expect((await a.state()).status).toBe("unknown");
    expect((await a.full({ X: 2 })).learning).toBeGreaterThan(0);
    expect(await client.hget("{test}", "run")).not.toBe(run);
  });

  test("who is told that the name space is new, but knows of an epoch, is no longer believed that", async () => {
    const a = await join("a", { X: 2 });
    expect((await a.ok()).learning).toBe(0);
    await client.flushall();
    expect((await a.state()).status).toBe("unknown");
    expect((await a.full({ X: 2 })).learning).toBeGreaterThan(0);
  });

  test("a member whose keys are lost when it is reaped starts a new epoch", async () => {
    const a = await join("a", { X: 2 }, { ttl: SHORT });
    const b = await join("b", { X: 1 }, { ttl: SHORT });
    await until(async () => (await b.ok()).expired.length > 0);
    await client.del("{test}:a");
    expect(await b.reap("a")).toBe(false);
    expect((await b.state()).status).toBe("unknown");
    expect(b.epoch).not.toBe(a.epoch);
  });

  test("where INFO is forbidden, a server that does not know the script counts as restarted", async () => {
    await client.call("ACL", "SETUSER", "modest", "on", ">secret", "~*", "&*", "+@all", "-info");
    const modest = new Redis(server.url, { username: "modest", password: "secret", enableReadyCheck: false });
    try {
      await expect(modest.info()).rejects.toThrow("NOPERM");
      const a = new Member("a");
      await a.state({ full: true, holds: new Map([["X", 1]]) }, {}, modest);
      const { epoch } = a;
      expect((await a.state({}, {}, modest)).status).toBe("ok");
      expect((await a.state({}, { isFresh: true }, modest)).status).toBe("unknown");
      expect(a.epoch).not.toBe(epoch);
      // Where INFO says that the server is the same, a flushed script is no restart.
      const b = await join("b");
      expect((await b.ok({}, { isFresh: true })).epoch).toBe(b.epoch);
    } finally {
      modest.disconnect();
      await client.call("ACL", "DELUSER", "modest");
    }
  });

  test("a server without memory left applies nothing", async () => {
    const a = await join("a", { X: 2 });
    const before = await client.hgetall("{test}");
    await client.config("SET", "maxmemory", "1");
    try {
      await expect(a.ok({ holds: new Map([["X", 3]]) })).rejects.toThrow("OOM");
    } finally {
      await client.config("SET", "maxmemory", "0");
    }
    expect(await client.hgetall("{test}")).toEqual(before);
  });

  // ── Time ──

  test("a silent member expires, is told of and reaped, and who waits gets its slots", async () => {
    const a = await join("a", { X: 2, Y: 1 }, { ttl: SHORT });
    const b = await join("b", {}, { ttl: SHORT });
    await b.ok({ asks: [wish(1, 1, { X: 2 })] });
    expect(await b.reap("a")).toBe(false);
    expect(await totals()).toEqual({ X: "2", Y: "1" });
    await until(async () => (await b.ok()).expired.includes("a"));
    expect(await b.reap("a")).toBe(false);
    expect(await b.ok()).toMatchObject({ granted: [1], expired: [], members: ["b"] });
    expect(await totals()).toEqual({ X: "1" });
    expect(await client.exists("{test}:a")).toBe(0);
    expect((await a.state()).status).toBe("unknown");
  });

  test("a jump of the server's clock lets nobody expire", async () => {
    await join("a", { X: 1 });
    const b = await join("b");
    for (const hours of [-1, 1]) {
      // As if the server had last looked an hour later, or earlier, than now.
      await client.hincrby("{test}", "wall", hours * 3_600_000);
      expect((await b.ok()).expired).toEqual([]);
    }
    await b.reap("a");
    expect(await totals()).toEqual({ X: "1" });
  });

  test("a slot passes by who was silent too long", async () => {
    const a = await join("a", { X: 1 }, { ttl: SHORT });
    const b = await join("b", {}, { ttl: SHORT });
    await b.ok({ asks: [wish(1, 1, { X: 1 })] });
    const { seen } = /^(?<seen>\d+)/.exec((await client.hget("{test}", "m:b"))!)!.groups as { seen: string };
    await until(async () => {
      await a.ok();
      return Number(await client.hget("{test}", "clock")) > Number(seen) + SHORT / 2;
    });
    await a.ok({ holds: new Map([["X", 0]]) });
    expect(await totals()).toEqual({});
    expect(await client.hget("{test}", "q:X")).toBeNull();
  });

  test("nothing is left some time after the last process is gone", async () => {
    const a = await join("a", { X: 1 }, { ttl: SHORT });
    await a.ok({ asks: [wish(1, 1, { X: 1 })] });
    await until(async () => (await client.dbsize()) === 0);
  });

  // ── Pushes ──

  test("who is granted something hears it; who waits is heard of by all others", async () => {
    const ears = new Redis(server.url);
    const heard: unknown[] = [];
    ears.on("message", (channel: string, text: string) => heard.push(parsePush("test", "b", channel, text)));
    try {
      await ears.subscribe(...channelsOf("test", "b"));
      const a = await join("a", { "X Y\n%": 1 });
      const b = new Member("b");
      const c = await join("c");
      await b.ok({ full: true, asks: [wish(1, 1, { "X Y\n%": 1 })] }, { listens: true });
      await c.ok({ asks: [wish(1, 1, { "X Y\n%": 1 })] });
      await a.ok({ holds: new Map([["X Y\n%", 0]]) });
      await ears.ping();
      expect(heard).toEqual([undefined, { kind: "recall", key: "X Y\n%" }, { kind: "granted" }]);
    } finally {
      ears.disconnect();
    }
  });

  test.each([true, false])("a slot passes by who does not hear, where that is known (%s)", async (isTrusted) => {
    const a = await join("a", { X: 1 });
    const b = await join("b");
    await b.ok({ asks: [wish(1, 1, { X: 1 })] }, { listens: true });
    await a.ok({ holds: new Map([["X", 0]]) }, { isTrusted });
    expect((await b.ok()).granted).toEqual(isTrusted ? [] : [1]);
  });

  // ── Many ──

  const MANY = 5_000;
  const many = (held: number): Record<string, number> =>
    Object.fromEntries(Array.from({ length: MANY }, (_, index) => [`counter ${index}`, held]));

  test("more counters and asks than fit on the stack of Lua in one statement", async () => {
    const a = await join("a", many(2));
    expect(Object.keys(await totals())).toHaveLength(MANY);
    const asks = Object.keys(many(1)).map((key, index) => wish(index + 1, 2, { [key]: 3 }));
    const reply = await a.ok({ asks });
    expect(reply.granted).toHaveLength(MANY);
    expect(reply.standings.every(({ held, total }) => held === 3 && total === 3)).toBe(true);
    expect((await a.ok({ beat: true })).standings).toHaveLength(MANY);
    await a.full({ "counter 1": 1 });
    expect(await totals()).toEqual({ "counter 1": "1" });
    await a.ok({ leave: true });
    const fields = await client.hkeys("{test}");
    expect(fields.filter((field) => field.includes(":"))).toEqual([]);
    expect(await client.exists("{test}:a")).toBe(0);
  });

  test("a beat tells of all that is held up to MOST_TOLD counters, as in the ledger", async () => {
    const held = (count: number) => new Map(Array.from({ length: count }, (_, index) => [`counter ${index}`, 1]));
    const [a, ledger] = [await join("a"), new Ledger({ ttl: LONG })];
    let sequence = 0;
    const inLedger = async (statement: Partial<Statement>): Promise<Ok> => {
      const all = { member: "a", label: "", sequence: ++sequence, epoch, full: false, beat: false, leave: false };
      const reply = await ledger.state({ ...all, holds: new Map(), asks: [], members: 0, ...statement });
      if (reply.status !== "ok") throw new Error(`status ${reply.status}`);
      return reply;
    };
    let epoch = "";
    ({ epoch } = await inLedger({ full: true }));
    for (const [count, told] of [
      [MOST_TOLD, MOST_TOLD],
      [MOST_TOLD + 1, 0],
    ] as const) {
      for (const say of [a.ok.bind(a), inLedger]) {
        await say({ holds: held(count) });
        expect((await say({ beat: true })).standings).toHaveLength(told);
        expect((await say({ beat: true, holds: new Map([["counter 7", 1]]) })).standings).toHaveLength(told || 1);
      }
    }
  });

  test("a member with many counters is reaped in parts, by whoever goes on with it", async () => {
    const b = await join("b", {}, { ttl: SHORT });
    await join("a", many(1), { ttl: SHORT });
    await until(async () => (await b.ok()).expired.includes("a"));
    expect(await b.reap("a")).toBe(true);
    const left = Object.keys(await totals()).length;
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThan(MANY);
    expect(await b.ok()).toMatchObject({ expired: ["a"], members: ["b"] });
    for (let more = true; more; ) more = await b.reap("a");
    expect(await totals()).toEqual({});
    expect((await b.ok()).expired).toEqual([]);
  });

  test("a member with many counters that leaves is reaped in parts, and never counted again", async () => {
    const b = await join("b");
    const a = await join("a", many(1));
    expect(await a.ok({ leave: true })).toMatchObject({ expired: ["a"], members: ["b"] });
    expect(Object.keys(await totals())).toHaveLength(MANY);
    expect(await b.ok()).toMatchObject({ expired: ["a"] });
    let calls = 0;
    for (let more = true; more; calls++) more = await b.reap("a");
    expect(calls).toBeGreaterThan(1);
    expect(await totals()).toEqual({});
    expect((await b.ok()).expired).toEqual([]);
  });

  test("a member that leaves while it is reaped is counted no more", async () => {
    const b = await join("b", {}, { ttl: SHORT });
    const a = await join("a", many(1), { ttl: SHORT });
    await until(async () => (await b.ok()).expired.includes("a"));
    expect(await b.reap("a")).toBe(true);
    await a.ok({ leave: true });
    for (let more = true; more; ) more = await b.reap("a");
    expect(await totals()).toEqual({});
  });

  test("a member that comes back while it is reaped is counted once", async () => {
    const b = await join("b", {}, { ttl: SHORT });
    const a = await join("a", many(1), { ttl: SHORT });
    await until(async () => (await b.ok()).expired.includes("a"));
    expect(await b.reap("a")).toBe(true);
    expect((await a.state()).status).toBe("unknown");
    expect((await a.full({ ...many(1), "counter 1": 4 })).expired).toEqual([]);
    expect(await b.reap("a")).toBe(false);
    expect(await totals()).toEqual(
      Object.fromEntries(Object.keys(many(1)).map((key) => [key, key === "counter 1" ? "4" : "1"])),
    );
  });

  // ── Members ──

  test("members are listed once the caller knows who they are", async () => {
    await join("b\n%", { "": 2, "%": 1, "a b": 3 });
    await join("a");
    const ask = async (known: readonly string[]) => parseMembers(await run(MEMBERS, membersCall(known, SPACE)));
    expect(await ask(["a"])).toEqual({ again: expect.arrayContaining(["a", "b\n%"]) });
    const before = await client.hgetall("{test}");
    expect(await ask(["gone", "a", "b\n%"])).toEqual({
      members: [
        { id: "a", label: "host a", silentFor: expect.any(Number), holds: new Map() },
        {
          id: "b\n%",
          label: "host b\n%",
          silentFor: expect.any(Number),
          holds: new Map(Object.entries({ "": 2, "%": 1, "a b": 3 })),
        },
      ],
    });
    expect(await client.hgetall("{test}")).toEqual(before);
    await client.flushall();
    expect(await ask(["a"])).toEqual({ members: [] });
    expect(await client.dbsize()).toBe(0);
  });

  test("what is no answer of a script is an error", () => {
    expect(() => parseReply(null)).toThrow(TypeError);
    expect(() => parseReply(["strange"])).toThrow('"strange"');
    expect(() => parseReply(["ok", "epoch", 0])).toThrow("too short");
    expect(() => parseReply(["ok", "epoch", "soon"])).toThrow("no number");
  });

  test("answers are read from text, buffers and numbers alike", () => {
    const reply = parseReply([Buffer.from("ok"), "e", "0", 3, 0, "1", Buffer.from("X"), 1, "2", 1n, 0, 0, "-1"]);
    expect(reply).toEqual({
      status: "ok",
      epoch: "e",
      learning: 0,
      version: 3,
      more: false,
      standings: [{ key: "X", held: 1, total: 2, contended: true }],
      granted: [],
      expired: [],
      members: undefined,
    });
  });
});
