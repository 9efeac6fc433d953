// Receivers that do not close a connection which nodemailer has closed: the slot comes back all the same.

import type { SendMailOptions } from "nodemailer";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { createLimiter, type LocalLimiter, parsePolicy } from "../../src/index.js";
import { limitedSocket } from "../../src/nodemailer.js";
import type { Behaviour } from "../smtp/receiver.js";
import { MAIL, receiver, transportOf, VERSIONS, type Version } from "./shared.js";
import { countSockets, type SocketCounts } from "./sockets.js";

const TIMEOUTS = { connectionTimeout: 400, greetingTimeout: 400, socketTimeout: 400 };
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
  const { port } = await receiver({ keepsOpen: true, ...behaviour });
  const getSocket = limitedSocket(limiter, () => ({ domain: `port-${port}.example` }));
  const tls = { rejectUnauthorized: false };
  const transport = transportOf(version, { port, tls, getSocket, maxRequeues: 0, ...TIMEOUTS, ...options });
  const [outcome] = await Promise.allSettled([transport.sendMail(mail)]);
  transport.close();
  return { port, outcome };
}

const CASES = VERSIONS.flatMap((version) =>
  [false, true].flatMap((pool) => (["none", "starttls", "secure"] as const).map((tls) => ({ version, pool, tls }))),
);
const MANY = { timeout: 60_000 };

/** Sends a message in each case, and waits until no slot is held. */
async function sendAll(cases: typeof CASES, behaviour: Behaviour, mail: SendMailOptions): Promise<boolean[]> {
  const sent = await Promise.all(
    cases.map(async (one) => ({
      ...(await send(
        one.version,
        { ...behaviour, starttls: one.tls === "starttls", secure: one.tls === "secure" },
        { pool: one.pool, secure: one.tls === "secure" },
        mail,
      )),
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
  // Of the versions that lie between 6 and 9 nothing else is to be seen, and so much text takes its time.
  const cases = CASES.filter(
    ({ version, pool, tls }) => !/[78]$/.test(version) && tls === (pool ? "starttls" : "none"),
  );
  expect(await sendAll(cases, { fault }, LARGE)).toEqual(cases.map(() => false));
});

it.each(["nodemailer6", "nodemailer9"] as const)(
  "a pool of %s waits for no silence under TLS",
  MANY,
  async (version) => {
    const { port } = await send(version, { starttls: true }, { pool: true, socketTimeout: 60_000 });
    await vi.waitFor(() => expect(sockets.open(port)).toBe(0), { timeout: 10_000 });
  },
);

it("a receiver has 5 seconds to close, or as long as socketCloseTimeout says", MANY, async () => {
  const kinds = [false, true].flatMap((pool) =>
    [500, Infinity].map((socketCloseTimeout) => ({ pool, socketCloseTimeout })),
  );
  const sent = await Promise.all(kinds.map((options) => send("nodemailer6", {}, options)));
  const open = () => sent.map(({ port }) => sockets.open(port));
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  expect(open()).toEqual([1, 1, 1, 1]);
  await vi.waitFor(() => expect(open()).toEqual([0, 1, 0, 1]), { timeout: 5_000 });
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
