// Real transports of nodemailer, each version, with sockets of the limiter.

import dns from "node:dns";
import { getEventListeners } from "node:events";
import { connect } from "node:net";
import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { createLimiter, parsePolicy } from "../../src/index.js";
import { type Dial, limitedSocket } from "../../src/nodemailer.js";
import { redisCluster } from "../../src/redis.js";
import { describeServer, startRedis } from "../redis/server.js";
import { MAIL, NEWEST, receiver, type Transport, transportOf, VERSIONS } from "./shared.js";
import { countSockets, type SocketCounts } from "./sockets.js";

const TARGET = { domain: "example.com" };
const mails = (transport: Transport, many: number) =>
  Promise.all(Array.from({ length: many }, () => transport.sendMail(MAIL)));
const limited = (max: number) => createLimiter(parsePolicy(`max_outbound_connections = ${max}`));

let sockets: SocketCounts;
beforeEach(() => {
  sockets = countSockets();
});
afterEach(() => {
  sockets[Symbol.dispose]();
});

describe.each(VERSIONS)("%s", (version) => {
  it("opens as many connections as the limit, one for each message", async () => {
    const [limiter, { port, took }] = [limited(3), await receiver({ look: 5 })];
    const transport = transportOf(version, { port, getSocket: limitedSocket(limiter, () => TARGET) });
    await mails(transport, 30);
    expect(took.length).toBe(30);
    expect([sockets.peak(port), sockets.total(port)]).toEqual([3, 30]);
    await vi.waitFor(() => expect([...limiter.leases()]).toEqual([]));
  });

  it("closes connections of a pool that are idle when others wait for their slots", async () => {
    const [limiter, { port, took }] = [limited(3), await receiver({ look: 5 })];
    const getSocket = limitedSocket(limiter, () => TARGET);
    // Far more than the limit, together and each.
    const pools = Array.from({ length: 4 }, () =>
      transportOf(version, { port, pool: true, maxConnections: 20, maxMessages: Infinity, getSocket }),
    );
    const rounds = version === "nodemailer" ? 3 : 1; // the older ones take their time
    for (let round = 0; round < rounds; round++) await Promise.all(pools.map((pool) => mails(pool, 25)));
    expect(took.length).toBe(rounds * 100);
    expect(sockets.peak(port)).toBe(3);
    // Nobody waits any more, so the last ones stay, for the next message.
    expect(sockets.open(port)).toBe(3);
    expect(limiter.snapshot()).toMatchObject({ leases: 3, waiting: 0 });
    for (const pool of pools) pool.close();
    await vi.waitFor(() => expect([...limiter.leases()]).toEqual([]));
  });

  it("uses a pooled connection again while nobody waits", async () => {
    const [limiter, { port, took }] = [limited(3), await receiver()];
    const getSocket = limitedSocket(limiter, () => TARGET);
    const pool = transportOf(version, { port, pool: true, maxConnections: 1, maxMessages: Infinity, getSocket });
    for (let i = 0; i < 5; i++) await mails(pool, 3);
    expect([took.length, sockets.total(port)]).toEqual([15, 1]);
  });

  it("sends the messages of a pool in their order, over the connections that it has", async () => {
    const [limiter, { port }] = [limited(2), await receiver({ look: 2 })];
    const getSocket = limitedSocket(limiter, () => TARGET, { timeout: 20_000, signal: new AbortController().signal });
    const pool = transportOf(version, { port, pool: true, maxConnections: 30, maxMessages: Infinity, getSocket });
    const order: number[] = [];
    await Promise.all(
      Array.from({ length: 100 }, async (_, at) => {
        await pool.sendMail(MAIL);
        order.push(at);
      }),
    );
    expect(sockets.total(port)).toBe(2);
    for (const [at, message] of order.entries()) expect(Math.abs(at - message)).toBeLessThan(3);
    pool.close();
    await vi.waitFor(() => expect(limiter.snapshot()).toMatchObject({ leases: 0, waiting: 0 }));
  });

  it("verifies a pool beside a message that is on its way", async () => {
    const [limiter, { port, took }] = [limited(2), await receiver({ look: 30 })];
    let dials = 0;
    const slow: Dial = ({ host, port: to }, callback) => {
      const later = dials++ === 0 ? 0 : 300;
      const connection = connect(
        { host, port: to },
        () => void setTimeout(() => callback(null, { connection }), later),
      );
    };
    const pool = transportOf(version, { port, pool: true, getSocket: limitedSocket(limiter, () => TARGET, {}, slow) });
    const sent = mails(pool, 2);
    await vi.waitFor(() => expect(dials).toBe(2));
    await expect(pool.verify()).resolves.toBe(true);
    await sent;
    expect(took.length).toBe(2);
  });

  it("keeps the places of a pool when connections fail or find no slot", async () => {
    const limiter = limited(2);
    const gone = await receiver();
    await gone[Symbol.asyncDispose]();
    const getSocket = limitedSocket(limiter, () => TARGET, { timeout: 300 });
    const pool = transportOf(version, { port: gone.port, pool: true, maxConnections: 3, getSocket });
    const sendAll = () => Promise.allSettled(Array.from({ length: 8 }, () => pool.sendMail(MAIL)));
    const errors = (all: PromiseSettledResult<unknown>[]) =>
      all.map((one) => (one.status === "rejected" ? (one.reason as { code: unknown }).code : "delivered"));
    expect(errors(await sendAll())).toEqual(Array(8).fill("ESOCKET"));
    const leases = [await limiter.acquire(TARGET), await limiter.acquire(TARGET)];
    expect(errors(await sendAll())).toEqual(Array(8).fill("ERR_LIMITER_TIMEOUT"));
    for (const lease of leases) lease.release();
    const back = await receiver({ port: gone.port });
    expect(errors(await sendAll())).toEqual(Array(8).fill("delivered"));
    expect(back.took.length).toBe(8);
  });

  it("counts each message once for rateLimit, over whichever connection it goes", async () => {
    const [limiter, { port, took }] = [limited(1), await receiver()];
    const getSocket = limitedSocket(limiter, () => TARGET);
    const rate = { rateLimit: 6, rateDelta: 3_600_000 };
    const pool = transportOf(version, {
      port,
      pool: true,
      maxConnections: 4,
      maxMessages: Infinity,
      ...rate,
      getSocket,
    });
    for (let i = 0; i < 20; i++) pool.sendMail(MAIL).catch(() => {});
    await vi.waitFor(() => expect(took.length).toBe(6));
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect([took.length, sockets.total(port)]).toEqual([6, 1]);
  });

  it("begins the time of rateLimit when a message has its slot", async () => {
    const [limiter, { port, took }] = [limited(1), await receiver()];
    const getSocket = limitedSocket(limiter, () => TARGET);
    const pool = transportOf(version, { port, pool: true, rateLimit: 1, rateDelta: 1000, getSocket });
    const lease = await limiter.acquire(TARGET);
    const sent = mails(pool, 2);
    await new Promise((resolve) => setTimeout(resolve, 1100));
    lease.release();
    await vi.waitFor(() => expect(took.length).toBe(1));
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(took.length).toBe(1);
    await sent;
  });

  it.each([0, 200])(
    "waits %i ms for a further connection, and sends over those it has all the same",
    async (timeout) => {
      const [limiter, { port, took }] = [limited(2), await receiver({ look: 20 })];
      const getSocket = limitedSocket(limiter, () => TARGET, { timeout });
      const pool = transportOf(version, { port, pool: true, maxConnections: 30, maxMessages: Infinity, getSocket });
      const order: number[] = [];
      await Promise.all(Array.from({ length: 80 }, (_, at) => pool.sendMail(MAIL).then(() => order.push(at))));
      expect([took.length, sockets.total(port)]).toEqual([80, 2]);
      for (const [at, message] of order.entries()) expect(Math.abs(at - message)).toBeLessThan(3);
    },
  );

  it("closes connections of a pool that are above a lowered limit, idle or busy", async () => {
    const [limiter, { port, took }] = [limited(6), await receiver({ look: 10 })];
    const getSocket = limitedSocket(limiter, () => TARGET);
    const pool = transportOf(version, { port, pool: true, maxConnections: 10, maxMessages: Infinity, getSocket });
    await mails(pool, 30);
    expect(sockets.open(port)).toBe(6);
    limiter.update(parsePolicy("max_outbound_connections = 4"));
    await vi.waitFor(() => expect(sockets.open(port)).toBe(4));
    let isOver = false;
    const busy = Array.from({ length: 10 }, async () => {
      while (!isOver) await pool.sendMail(MAIL);
    });
    limiter.update(parsePolicy("max_outbound_connections = 1"));
    await vi.waitFor(() => expect(limiter.snapshot().leases).toBe(1));
    isOver = true;
    const before = took.length;
    await Promise.all(busy);
    expect(took.length).toBeGreaterThan(before);
    expect(limiter.snapshot().leases).toBe(1);
  });

  it("closes idle connections of a pool when the limiter closes", async () => {
    const [limiter, { port }] = [limited(3), await receiver()];
    const pool = transportOf(version, { port, pool: true, getSocket: limitedSocket(limiter, () => TARGET) });
    await mails(pool, 10);
    expect(sockets.open(port)).toBe(3);
    await limiter.close();
    expect(sockets.open(port)).toBe(0);
  });

  it("leaves no listener on a signal that many mails share", async () => {
    const [limiter, { port, took }] = [limited(1), await receiver()];
    const { signal } = new AbortController();
    const getSocket = limitedSocket(limiter, () => TARGET, { signal });
    const options = { port, pool: true, maxConnections: 20, getSocket };
    const pools = Array.from({ length: 3 }, () => transportOf(version, options));
    const sent = pools.map((pool) => mails(pool, 20));
    await vi.waitFor(() => expect(limiter.snapshot().waiting).toBeGreaterThan(30));
    expect(getEventListeners(signal, "abort").length).toBe(1);
    await Promise.all(sent);
    expect(took.length).toBe(60);
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });

  it("does not close a pooled connection in use", async () => {
    const { port, took } = await receiver({ look: 100 });
    const limiter = limited(1);
    const getSocket = limitedSocket(limiter, () => TARGET);
    const pool = transportOf(version, { port, pool: true, maxConnections: 1, maxMessages: Infinity, getSocket });
    await mails(pool, 1);
    await new Promise((resolve) => setTimeout(resolve, 20)); // idle by now
    const more = mails(pool, 2);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const other = limiter.acquire(TARGET);
    await more;
    expect([took.length, sockets.total(port)]).toEqual([3, 1]);
    (await other).release(); // and now it was closed
    await vi.waitFor(() => expect(sockets.open(port)).toBe(0));
  });

  it("holds the slot to the end of TLS", async () => {
    const limiter = limited(2);
    const { port, ...server } = await receiver({ starttls: true, look: 5 });
    const getSocket = limitedSocket(limiter, () => TARGET);
    const options = { port, requireTLS: true, tls: { rejectUnauthorized: false }, getSocket };
    const transports = [
      transportOf(version, options),
      transportOf(version, { ...options, pool: true, maxConnections: 10 }),
    ];
    await Promise.all(transports.map((transport) => mails(transport, 10)));
    expect(server.took.length).toBe(20);
    expect(sockets.peak(port)).toBe(2);
    transports[1]?.close();
    await vi.waitFor(() => expect([...limiter.leases()]).toEqual([]));
  });

  it("does not count the wait for a slot as time to connect", async () => {
    const [limiter, { port, took }] = [limited(1), await receiver()];
    const getSocket = limitedSocket(limiter, () => TARGET);
    const transport = transportOf(version, { port, connectionTimeout: 200, getSocket });
    const lease = await limiter.acquire(TARGET);
    const sent = transport.sendMail(MAIL);
    await new Promise((resolve) => setTimeout(resolve, 500));
    lease.release();
    await sent;
    expect(took.length).toBe(1);
  });

  it("does not count it under TLS either", async () => {
    const [limiter, { port, took }] = [limited(1), await receiver({ secure: true })];
    const getSocket = limitedSocket(limiter, () => TARGET);
    const options = { port, secure: true, connectionTimeout: 200, tls: { rejectUnauthorized: false }, getSocket };
    const lease = await limiter.acquire(TARGET);
    const sent = transportOf(version, options).sendMail(MAIL);
    await new Promise((resolve) => setTimeout(resolve, 500));
    lease.release();
    await sent;
    expect(took.length).toBe(1);
  });

  it.each([false, true])("lets a session take longer than connectionTimeout, pool: %j", async (pool) => {
    const { port, took } = await receiver({ look: 500 });
    const getSocket = limitedSocket(limited(1), () => TARGET);
    await transportOf(version, { port, pool, connectionTimeout: 200, getSocket }).sendMail(MAIL);
    expect(took.length).toBe(1);
  });

  it("goes to nodemailer's own port when none is given", async () => {
    const getSocket = limitedSocket(limited(1), () => TARGET);
    const ports = [true, false].map((secure) => transportOf(version, { host: "127.0.0.9", secure, getSocket }));
    await Promise.allSettled(ports.map((transport) => transport.sendMail(MAIL)));
    expect([sockets.total(465), sockets.total(587)]).toEqual([1, 1]);
  });

  it.each([false, true])("ends the wait for a slot with the reason of a signal, pool: %j", async (pool) => {
    const [limiter, { port }] = [limited(1), await receiver()];
    const lease = await limiter.acquire(TARGET);
    const [abort, reason] = [new AbortController(), new Error("no longer")];
    const getSocket = limitedSocket(limiter, () => TARGET, { signal: abort.signal });
    const transports = [1, 2, 3].map(() => transportOf(version, { port, pool, getSocket }));
    const sent = Promise.allSettled(transports.map((transport) => transport.sendMail(MAIL)));
    await vi.waitFor(() => expect(limiter.snapshot().waiting).toBe(3));
    abort.abort(reason);
    expect(limiter.snapshot().waiting).toBe(0);
    expect(await sent).toMatchObject([{ reason }, { reason }, { reason }]);
    expect(sockets.total(port)).toBe(0);
    lease.release();
  });

  it("sends what a pool has taken before it is closed", async () => {
    const [limiter, { port, took }] = [limited(1), await receiver({ look: 100 })];
    const getSocket = limitedSocket(limiter, () => TARGET);
    const pool = transportOf(version, { port, pool: true, maxConnections: 3, getSocket });
    const sent = mails(pool, 3);
    await vi.waitFor(() => expect(limiter.snapshot()).toMatchObject({ leases: 1, waiting: 2 }));
    pool.close();
    await sent;
    expect(took.length).toBe(3);
    await vi.waitFor(() => expect(limiter.snapshot()).toMatchObject({ leases: 0, waiting: 0 }));
  });

  it("goes to an address of the family of its own", async () => {
    const { port, peak } = await receiver();
    const lookup = vi.spyOn(dns, "lookup") as unknown as { mockImplementation(lookup: unknown): void };
    onTestFinished(() => void vi.restoreAllMocks());
    lookup.mockImplementation((_: string, { family, all }: dns.LookupOptions, done: (...found: unknown[]) => void) => {
      const both = [
        { address: "::1", family: 6 },
        { address: "127.0.0.1", family: 4 },
      ];
      const those = both.filter((one) => !family || one.family === family);
      if (all) done(null, those);
      else done(null, those[0]?.address, those[0]?.family);
    });
    const getSocket = limitedSocket(limited(1), () => TARGET);
    await mails(transportOf(version, { host: "mx.example", port, localAddress: "127.0.0.5", getSocket }), 1);
    expect([...peak]).toEqual([["127.0.0.5", 1]]);
  });

  it("leaves from the address of the transport", async () => {
    const { port, peak } = await receiver();
    const getSocket = limitedSocket(limited(1), ({ localAddress }) => ({ ...TARGET, binding: localAddress }));
    await mails(transportOf(version, { port, localAddress: "127.0.0.5", getSocket }), 1);
    expect([...peak]).toEqual([["127.0.0.5", 1]]);
  });

  it("verifies over a limited connection, too", async () => {
    const [limiter, { port }] = [limited(1), await receiver()];
    const getSocket = limitedSocket(limiter, () => TARGET);
    for (const pool of [false, true]) {
      const transport = transportOf(version, { port, pool, getSocket });
      await expect(transport.verify()).resolves.toBe(true);
    }
    await vi.waitFor(() => expect([...limiter.leases()]).toEqual([]));
    expect([sockets.total(port), sockets.peak(port)]).toEqual([2, 1]);
  });
});

it("an idle connection that does not answer QUIT is closed all the same", { timeout: 20_000 }, async () => {
  const server = await receiver({ fault: { phase: "quit", fault: "stall", times: 1 } });
  const { port } = server;
  const limiter = limited(1);
  const getSocket = limitedSocket(limiter, () => TARGET);
  const [first, second] = [1, 2].map(() => transportOf(NEWEST, { port, pool: true, maxRequeues: 0, getSocket }));
  await mails(first!, 1);
  const sent = mails(second!, 1);
  await vi.waitFor(() => expect(server.faults).toBe(1));
  await Promise.all([sent, mails(first!, 1)]); // not over the connection that ends
  expect(server.took.length).toBe(3);
  expect([sockets.peak(port), sockets.total(port)]).toEqual([1, 3]);
});

it("says so when a proxy is in use already, or the target is none", () => {
  const limiter = limited(1);
  expect(() => limitedSocket(limiter, () => TARGET, {}, false)).toThrow("before the first mail");
  expect(() => limitedSocket(limiter, TARGET as never)).toThrow("target must be a function, not object");
});

describeServer("with limits of a cluster", () => {
  const direct: Dial | undefined = undefined;
  const dialled: Dial = ({ host, port }, callback) => {
    const connection = connect({ host, port }, () => callback(null, { connection }));
  };
  it.each([
    { pool: false, starttls: false, dial: direct },
    { pool: false, starttls: true, dial: dialled },
    { pool: true, starttls: false, dial: dialled },
    { pool: true, starttls: true, dial: direct },
  ])("a transport closes a connection that lost its slot, %j", async ({ pool, starttls, dial }) => {
    await using redis = await startRedis();
    const client = new Redis(redis.url);
    client.on("error", () => {});
    const limiter = createLimiter(parsePolicy("cluster_server_max_outbound_connections = 2"), {
      cluster: redisCluster(client, { ttl: 2000, isNew: true }),
    });
    const { port, took } = await receiver({ starttls, look: 60_000 });
    const transport = transportOf(NEWEST, {
      ...{ port, pool, maxRequeues: 0, tls: { rejectUnauthorized: false } },
      getSocket: limitedSocket(limiter, () => TARGET, {}, dial),
    });
    const sent = Promise.allSettled([transport.sendMail(MAIL), transport.sendMail(MAIL)]);
    await vi.waitFor(() => expect(sockets.open(port)).toBe(2));
    redis.freeze();
    await vi.waitFor(() => expect(sockets.open(port)).toBe(0), 10_000);
    expect((await sent).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    await vi.waitFor(() => expect([...limiter.leases()]).toEqual([]));
    expect(took).toEqual([]);
    redis.thaw();
    await limiter.close();
    client.disconnect();
  });

  it("closes idle connections of a pool for those who wait in another process", async () => {
    await using redis = await startRedis();
    const policy = parsePolicy("cluster_server_max_outbound_connections = 2");
    const { port, took } = await receiver();
    const limiters = [1, 2].map(() => {
      const client = new Redis(redis.url);
      onTestFinished(() => client.disconnect());
      return createLimiter(policy, { cluster: redisCluster(client, { ttl: 2000, isNew: true }) });
    });
    const pools = limiters.map((limiter) =>
      transportOf(NEWEST, {
        ...{ port, pool: true, maxConnections: 10, getSocket: limitedSocket(limiter, () => TARGET) },
      }),
    );
    for (let round = 0; round < 2; round++) for (const pool of pools) await mails(pool, 10);
    expect(took.length).toBe(40);
    expect(sockets.peak(port)).toBe(2);
    for (const pool of pools) pool.close();
    for (const limiter of limiters) await limiter.close();
  });
});
