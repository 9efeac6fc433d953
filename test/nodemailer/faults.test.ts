// The life of a socket under nodemailer, with all that can go wrong: the slot comes back when the socket is closed, once.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { createLimiter, type LocalLimiter, parsePolicy } from "../../src/index.js";
import { type Dial, limitedSocket, type TransportOptions } from "../../src/nodemailer.js";
import type { Fault, Phase } from "../smtp/receiver.js";
import { MAIL, NEWEST, receiver, type Transport, transportOf } from "./shared.js";
import { countSockets, type SocketCounts } from "./sockets.js";

const LIMIT = 2;
/** The oldest, the last before the newest that does not destroy what it closes, and the newest. */
const KINDS = (["nodemailer6", "nodemailer9", NEWEST] as const).flatMap((version) =>
  (["plain", "pooled"] as const).map((kind) => ({ version, kind })),
);
type Kind = (typeof KINDS)[number];
/** Nobody waits for these to pass but the faults that are about them. */
const TIMEOUTS = { connectionTimeout: 400, greetingTimeout: 400, socketTimeout: 400, socketCloseTimeout: 400 };
const PATIENT = { connectionTimeout: 30_000, greetingTimeout: 30_000, socketTimeout: 30_000 };
const ANY_CERTIFICATE = { tls: { rejectUnauthorized: false } };

/** Each port is a domain of its own. */
const target = ({ port }: TransportOptions) => ({ domain: `port-${port}.example` });

let limiter: LocalLimiter;
let sockets: SocketCounts;

beforeEach(() => {
  limiter = createLimiter(parsePolicy(`max_outbound_connections = ${LIMIT}`));
  sockets = countSockets();
});

afterEach(() => {
  sockets[Symbol.dispose]();
});

function transportTo({ version, kind }: Kind, port: number, more: object = {}, dial?: Dial): Transport {
  const getSocket = limitedSocket(limiter, target, { timeout: 30_000 }, dial);
  const pool = kind === "pooled" ? { pool: true as const, maxConnections: 6, maxRequeues: 2 } : {};
  return transportOf(version, { port, getSocket, ...TIMEOUTS, ...pool, ...more });
}

/** How many of so many messages were delivered, and the codes of what became of the others. */
async function send(transport: Transport, messages: number): Promise<{ delivered: number; codes: unknown[] }> {
  const sent = await Promise.allSettled(Array.from({ length: messages }, () => transport.sendMail(MAIL)));
  const failed = sent.filter((one) => one.status === "rejected");
  return { delivered: messages - failed.length, codes: failed.map(({ reason }) => (reason as { code?: string }).code) };
}

/** Nobody holds or waits for a slot, and no socket is left. */
async function untilAllIsBack(): Promise<void> {
  await vi.waitFor(
    () => {
      expect(limiter.snapshot()).toMatchObject({ leases: 0, waiting: 0, counters: [] });
      expect(sockets.open()).toBe(0);
    },
    { timeout: 20_000, interval: 20 },
  );
}

/** A limit too many or too few would show: as many connections as the limit, all of them in use. */
async function expectAllSlots(kind: Kind): Promise<void> {
  const good = await receiver({ look: 20 });
  const { domain } = target({ port: good.port });
  const held = [limiter.tryAcquire({ domain }), limiter.tryAcquire({ domain }), limiter.tryAcquire({ domain })];
  expect(held.map((lease) => lease !== undefined)).toEqual([true, true, false]);
  for (const lease of held) lease?.release();
  const transport = transportTo(kind, good.port, PATIENT);
  expect(await send(transport, 6)).toMatchObject({ delivered: 6 });
  expect(sockets.peak(good.port)).toBe(LIMIT);
  transport.close();
  await untilAllIsBack();
}

describe.each(KINDS)("$version, $kind", (kind) => {
  const phases: readonly Phase[] = ["greeting", "ehlo", "starttls", "mail", "rcpt", "data", "dot"];
  const faults: readonly Fault[] = ["stall", "drop", "reset", "421 4.3.2 Not now", "554 5.7.1 No"];

  it.each(faults)("has its slots back when a receiver answers %j in any phase", { timeout: 60_000 }, async (fault) => {
    const cases = [false, true].flatMap((starttls) => phases.map((phase) => ({ phase, starttls })));
    await Promise.all(
      cases
        .filter(({ phase, starttls }) => starttls || phase !== "starttls")
        .map(async ({ phase, starttls }) => {
          const bad = await receiver({ starttls, fault: { phase, fault, times: 3 } });
          const transport = transportTo(kind, bad.port, ANY_CERTIFICATE);
          while (bad.faults < 3) await send(transport, 8); // a pool needs fewer connections
          const what = `${fault} in ${phase}${starttls ? ", STARTTLS" : ""}`;
          expect(sockets.peak(bad.port), what).toBe(LIMIT);
          transport.close();
          const patient = transportTo(kind, bad.port, { ...ANY_CERTIFICATE, ...PATIENT });
          expect(await send(patient, 4), what).toMatchObject({ delivered: 4 });
          expect(sockets.peak(bad.port), what).toBe(LIMIT);
          patient.close();
        }),
    );
    await untilAllIsBack();
    await expectAllSlots(kind);
  });

  it("has its slots back when nobody listens", async () => {
    const gone = await receiver();
    await gone[Symbol.asyncDispose]();
    const transport = transportTo(kind, gone.port);
    const error = { code: "ESOCKET", originalCode: "ECONNREFUSED", command: "CONN" };
    await expect(transport.sendMail(MAIL)).rejects.toMatchObject(error);
    expect(await send(transport, 6)).toEqual({ delivered: 0, codes: Array(6).fill("ESOCKET") });
    expect(sockets.peak(gone.port)).toBe(LIMIT);
    await untilAllIsBack();
    await expectAllSlots(kind);
  });

  it("has its slots back when a connection takes too long to be made", async () => {
    const full = await fullBacklog();
    sockets[Symbol.dispose]();
    sockets = countSockets();
    const transport = transportTo(kind, full.port, { connectionTimeout: 100 });
    await expect(transport.sendMail(MAIL)).rejects.toMatchObject({ code: "ETIMEDOUT", command: "CONN" });
    expect((await send(transport, 5)).codes).toEqual(Array(5).fill("ETIMEDOUT"));
    expect(sockets.peak(full.port)).toBe(LIMIT);
    await untilAllIsBack();
    await expectAllSlots(kind);
  });

  it("has its slots back when there can be no connection", async () => {
    const codes = await Promise.all([
      send(transportTo(kind, 70_000), 3), // no such port
      send(transportTo(kind, 25, { host: "no-such-host.invalid" }), 3),
      send(transportTo(kind, 25, { localAddress: "192.0.2.1" }), 3), // not an address of this machine
    ]);
    expect(codes.map(({ codes }) => codes)).toEqual([
      Array(3).fill("ECONNECTION"),
      Array(3).fill("EDNS"),
      Array(3).fill("ESOCKET"),
    ]);
    await untilAllIsBack();
    await expectAllSlots(kind);
  });

  it("has its slots back when TLS fails", async () => {
    const [selfSigned, garbage, plain] = [
      await receiver({ starttls: true }), // of which the certificate is refused
      await receiver({ starttls: true, fault: { phase: "starttls", fault: "220 Go ahead", times: 99 } }),
      await receiver(),
    ];
    const transports = [
      transportTo(kind, selfSigned.port),
      transportTo(kind, garbage.port, ANY_CERTIFICATE),
      transportTo(kind, plain.port, { ...ANY_CERTIFICATE, secure: true }),
    ];
    for (const transport of transports) expect((await send(transport, 5)).delivered).toBe(0);
    expect([selfSigned, garbage, plain].map(({ port }) => sockets.peak(port))).toEqual([LIMIT, LIMIT, LIMIT]);
    await untilAllIsBack();
    await expectAllSlots(kind);
  });

  it("has its slots back when its callback throws", async () => {
    const good = await receiver();
    const getSocket = limitedSocket(limiter, target);
    const thrown = uncaught();
    const error = new Error("the callback's");
    const throws = (): never => {
      throw error;
    };
    getSocket({ host: "127.0.0.1", port: good.port }, throws);
    getSocket({ host: "127.0.0.1", port: 70_000 }, throws);
    await vi.waitFor(() => expect(thrown).toEqual([error, error]));
    await untilAllIsBack();
    await expectAllSlots(kind);
  });

  it("hands over what the limiter says, and opens nothing", async () => {
    const good = await receiver();
    const { domain } = target({ port: good.port });
    const held = [await limiter.acquire({ domain }), await limiter.acquire({ domain })];
    const sendBy = (getSocket: ReturnType<typeof limitedSocket>) =>
      transportOf(kind.version, { port: good.port, pool: kind.kind === "pooled", getSocket }).sendMail(MAIL);

    const late = sendBy(limitedSocket(limiter, target, { timeout: 10 }));
    await expect(late).rejects.toMatchObject({ code: "ERR_LIMITER_TIMEOUT" });
    const reason = new Error("no longer");
    await expect(sendBy(limitedSocket(limiter, target, { signal: AbortSignal.abort(reason) }))).rejects.toBe(reason);
    await expect(sendBy(limitedSocket(limiter, () => ({ domain: "" })))).rejects.toThrow(TypeError);
    const broken = limitedSocket(limiter, () => {
      throw reason;
    });
    await expect(sendBy(broken)).rejects.toBe(reason);
    expect(sockets.total(good.port)).toBe(0);
    for (const lease of held) lease.release();
    await untilAllIsBack();
  });

  it("has its slots back when nodemailer cannot use its own options", async () => {
    const good = await receiver();
    const thrown = uncaught();
    transportTo(kind, good.port, { socketTimeout: -1 })
      .sendMail(MAIL)
      .catch(() => {});
    await vi.waitFor(() => expect(thrown).toMatchObject([{ code: "ERR_OUT_OF_RANGE" }]));
    await untilAllIsBack();
    await expectAllSlots(kind);
  });

  it("leaves the error of a session as nodemailer made it", async () => {
    const bad = await receiver({ fault: { phase: "mail", fault: "reset", times: 9 } });
    const error: unknown = await transportTo(kind, bad.port, { maxRequeues: 0 })
      .sendMail(MAIL)
      .catch((reason) => reason);
    const before = { ...(error as object) };
    await untilAllIsBack();
    expect({ ...(error as object) }).toEqual(before);
  });

  it("does not lose a slot to a dial of somebody else", async () => {
    const good = await receiver();
    const dials: Record<string, { dial: Dial; error: object }> = {
      fails: { dial: (_, callback) => callback(new Error("no proxy")), error: { message: "no proxy" } },
      throws: {
        dial: () => {
          throw new Error("no dial");
        },
        error: { message: "no dial" },
      },
      nothing: { dial: (_, callback) => callback(null, false), error: { message: "dial gave no connection" } },
      rejects: { dial: (() => Promise.reject(new Error("no promise"))) as Dial, error: { message: "no promise" } },
      never: { dial: () => {}, error: { code: "ETIMEDOUT", command: "CONN", timeoutType: "CONNECT_TIMEOUT" } },
      closed: {
        dial: ({ host, port }, callback) => {
          const connection = connect({ host, port }).destroy();
          connection.once("close", () => callback(null, { connection }));
        },
        error: { message: "The connection is closed already" },
      },
      broken: {
        dial: ({ host, port }, callback) => {
          const connection = connect({ host, port }, () => {
            connection.destroy(new Error("broken"));
            callback(new Error("half"), { connection });
          });
        },
        error: { message: "half" },
      },
    };
    for (const { dial, error } of Object.values(dials)) {
      const sent = transportTo(kind, good.port, { connectionTimeout: 50 }, dial).sendMail(MAIL);
      await expect(sent).rejects.toMatchObject(error);
    }
    await untilAllIsBack();
    await expectAllSlots(kind);
  });

  it("destroys the socket of a dial that is too late", async () => {
    const good = await receiver();
    const late: Dial = ({ host, port }, callback) => {
      const connection = connect({ host, port });
      setTimeout(() => callback(null, { connection }), 200);
    };
    const sent = transportTo(kind, good.port, { connectionTimeout: 50 }, late).sendMail(MAIL);
    await expect(sent).rejects.toMatchObject({ code: "ETIMEDOUT" });
    await vi.waitFor(() => expect([sockets.total(good.port), sockets.open()]).toEqual([1, 0]));
    await untilAllIsBack();
  });
});

// Older ones know no signal of a message, and no force.
describe.each(["plain", "pooled"] as const)("mail that is given up, %s", (kind) => {
  const newest: Kind = { version: NEWEST, kind };
  const ways: readonly (readonly [string, (transport: Transport, abort: AbortController) => void])[] = [
    ["aborted", (_, abort) => abort.abort()],
    ["of a pool that closes by force", (transport) => transport.close({ force: true })],
  ];

  it.each(kind === "plain" ? ways.slice(0, 1) : ways)("%s", async (_, giveUp) => {
    const slow = await receiver({ look: 60_000 });
    const transport = transportTo(newest, slow.port, { socketTimeout: 60_000 });
    const abort = new AbortController();
    const sent = Array.from({ length: 5 }, () => transport.sendMail({ ...MAIL, signal: abort.signal }));
    const settled = Promise.allSettled(sent);
    await vi.waitFor(() => expect(slow.open.get("127.0.0.1")).toBe(LIMIT));
    giveUp(transport, abort);
    // Those of a plain transport cannot know, and have their turn.
    expect(limiter.snapshot().waiting).toBe(kind === "plain" ? 3 : 0);
    expect((await settled).map(({ status }) => status)).toEqual(Array(5).fill("rejected"));
    await untilAllIsBack();
    expect(sockets.total(slow.port)).toBe(kind === "plain" ? 5 : LIMIT);
    await expectAllSlots(newest);
  });
});

it("does not dial for a pool's mail that is given up as it gets its slot", async () => {
  const dial = vi.fn<Dial>();
  const lease = [
    await limiter.acquire({ domain: "port-25.example" }),
    await limiter.acquire({ domain: "port-25.example" }),
  ];
  const transport = transportTo({ version: NEWEST, kind: "pooled" }, 25, {}, dial);
  const abort = new AbortController();
  const sent = Promise.allSettled([transport.sendMail({ ...MAIL, signal: abort.signal })]);
  await vi.waitFor(() => expect(limiter.snapshot().waiting).toBe(1));
  for (const one of lease) one.release();
  abort.abort();
  await sent;
  await vi.waitFor(() => expect(limiter.snapshot().leases).toBe(0));
  expect(dial).not.toHaveBeenCalled();
});

it("stops the dial of a pool's connection that is given up", async () => {
  const { port } = await fullBacklog();
  const transport = transportTo({ version: NEWEST, kind: "pooled" }, port, { connectionTimeout: 60_000 });
  const abort = new AbortController();
  const sent = Promise.allSettled([transport.sendMail({ ...MAIL, signal: abort.signal })]);
  await vi.waitFor(() => expect(limiter.snapshot().leases).toBe(1));
  abort.abort();
  expect(await sent).toMatchObject([{ reason: { name: "AbortError" } }]);
  await vi.waitFor(() => expect(limiter.snapshot().leases).toBe(0));
});

/** What nobody catches, up to the end of the test. */
function uncaught(): readonly unknown[] {
  const thrown: unknown[] = [];
  const listeners = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException").on("uncaughtException", (reason) => thrown.push(reason));
  onTestFinished(() => {
    process.removeAllListeners("uncaughtException");
    for (const listener of listeners) process.on("uncaughtException", listener);
  });
  return thrown;
}

/** A port at which no connection is ever made: as many as may wait to be accepted already do. */
async function fullBacklog(): Promise<{ readonly port: number; readonly waiting: number }> {
  // Of a process that stands still: nothing keeps a server here from accepting.
  const child = spawn(process.execPath, ["-e", SERVER_OF_ONE], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const [port] = (await once(child.stdout, "data")) as [Buffer];
  child.kill("SIGSTOP");
  const waiting = Array.from({ length: 4 }, () => connect(Number(port), "127.0.0.1").on("error", () => {}));
  onTestFinished(() => {
    for (const socket of waiting) socket.destroy();
  });
  await Promise.all(waiting.slice(0, 2).map((socket) => once(socket, "connect")));
  return { port: Number(port), waiting: waiting.length };
}

const SERVER_OF_ONE = `
  const server = require("node:net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
    process.stdout.write(String(server.address().port));
  });`;
