// Receivers that do not close a connection which nodemailer has closed: the slot comes back all the same.

import type { SendMailOptions } from "nodemailer";
import { afterEach, beforeEach, expect, it, onTestFinished, vi } from "vitest";
import { createLimiter, type LocalLimiter, parsePolicy } from "../../src/index.js";
import { limitedSocket } from "../../src/nodemailer.js";
import { type Behaviour, startReceiver } from "../smtp/receiver.js";
import { countSockets, type SocketCounts } from "./sockets.js";
import { transportOf, VERSIONS, type Version } from "./versions.js";

const TIMEOUTS = { connectionTimeout: 400, greetingTimeout: 400, socketTimeout: 400 };
const MAIL: SendMailOptions = { from: "us@sender.example", to: "you@example.com", text: "Hello" };
/** More than the buffers of both sides hold. */
const LARGE: SendMailOptions = { ...MAIL, text: `${"x".repeat(70)}\n`.repeat(200_000) };

let limiter: LocalLimiter;
let sockets: SocketCounts;
beforeEach(() => {
  limiter = createLimiter(parsePolicy("max_outbound_connections = 1"));
  sockets = countSockets();
});
afterEach(() => sockets[Symbol.dispose]());

async function send(version: Version, behaviour: Behaviour, options: object, mail = MAIL) {
  const server = await startReceiver("127.0.0.1", { keepsOpen: true, ...behaviour });
  onTestFinished(() => server[Symbol.asyncDispose]());
  const { port } = server;
  const getSocket = limitedSocket(limiter, () => ({ domain: `port-${port}.example` }));
  const tls = { rejectUnauthorized: false };
  const transport = transportOf(version, { port, tls, getSocket, maxRequeues: 0, ...TIMEOUTS, ...options });
  const [outcome] = await Promise.allSettled([transport.sendMail(mail)]);
  transport.close();
  return { port, outcome };
}

const CASES = VERSIONS.flatMap((version) =>
  [false, true].flatMap((pool) => [false, true].map((starttls) => ({ version, pool, starttls }))),
);
const MANY = { timeout: 60_000 };

/** Sends a message in each case, and waits until no slot is held. */
async function sendAll(cases: typeof CASES, behaviour: Behaviour, mail: SendMailOptions): Promise<boolean[]> {
  const sent = await Promise.all(
    cases.map(async (one) => ({
      ...(await send(one.version, { ...behaviour, starttls: one.starttls }, { pool: one.pool }, mail)),
      name: JSON.stringify(one),
    })),
  );
  const left = () => sent.filter(({ port }) => sockets.open(port) > 0).map(({ name }) => name);
  await vi.waitFor(() => expect(left()).toEqual([]), { timeout: 15_000, interval: 50 });
  await vi.waitFor(() => expect(limiter.snapshot()).toMatchObject({ leases: 0, waiting: 0 }));
  return sent.map(({ outcome }) => outcome.status === "fulfilled");
}

it("the slots come back once the mail is delivered", MANY, async () => {
  expect(await sendAll(CASES, {}, MAIL)).toEqual(CASES.map(() => true));
});

it("the slots come back when a receiver says nothing any more", MANY, async () => {
  const fault = { phase: "data", fault: "stall", times: 9 } as const;
  expect(await sendAll(CASES, { fault }, MAIL)).toEqual(CASES.map(() => false));
});

it("the slots come back when a receiver reads nothing any more", MANY, async () => {
  const fault = { phase: "data", fault: "deaf", times: 9 } as const;
  const cases = CASES.filter(({ pool, starttls }) => pool === starttls);
  expect(await sendAll(cases, { fault }, LARGE)).toEqual(cases.map(() => false));
});

it.each(["nodemailer6", "nodemailer"] as const)(
  "%s waits as long as socketCloseTimeout says",
  MANY,
  async (version) => {
    const [longer, shorter] = await Promise.all([
      send(version, {}, { socketCloseTimeout: 8_000 }),
      send(version, {}, { socketCloseTimeout: 500 }),
    ]);
    await vi.waitFor(() => expect(sockets.open(shorter.port)).toBe(0), { timeout: 15_000 });
    expect(sockets.open(longer.port)).toBe(1);
    await vi.waitFor(() => expect(sockets.open(longer.port)).toBe(0), { timeout: 15_000 });
    await vi.waitFor(() => expect(limiter.snapshot().leases).toBe(0));
  },
);
