// A server in a process of its own that refuses one connection too many: it does not know of a close as soon as we do.

import { fork } from "node:child_process";
import { once, setMaxListeners } from "node:events";
import type { SendMailOptions } from "nodemailer";
import { describe, expect, it, onTestFinished } from "vitest";
import { createLimiter, parsePolicy } from "../../src/index.js";
import { limitedSocket } from "../../src/nodemailer.js";
import { MAIL, NEWEST, type Transport, transportOf, type Version } from "./shared.js";

async function serverPort(kind: "starttls" | "secure"): Promise<number> {
  const child = fork(new URL("smtp-server.ts", import.meta.url), [kind], {
    execArgv: ["--import", "tsx"],
    stdio: ["ignore", "inherit", "ignore", "ipc"], // of its certificate, which nobody need trust
  });
  onTestFinished(() => child.disconnect());
  const [{ port }] = (await once(child, "message")) as [{ port: number }];
  return port;
}

function transportTo(version: Version, port: number, limit: number, options: object): Transport {
  const limiter = createLimiter(parsePolicy(`max_outbound_connections = ${limit}`));
  const getSocket = limitedSocket(limiter, () => ({ domain: "example.com" }));
  return transportOf(version, { port, getSocket, tls: { rejectUnauthorized: false }, ...options });
}

/** How many of so many messages were refused. */
async function refused(transport: Transport, mails: readonly SendMailOptions[]): Promise<number> {
  const sent = await Promise.allSettled(mails.map((mail) => transport.sendMail(mail)));
  const reasons = sent.flatMap((one) => (one.status === "rejected" ? [one.reason as { message: string }] : []));
  return reasons.filter(({ message }) => message.includes("421")).length;
}

/** A server that gets no processor for 50 ms on a busy machine may refuse one. */
const PATIENT = { retry: 2 };
const MAILS = Array.from({ length: 50 }, () => MAIL);

describe.each(["nodemailer6", NEWEST] as const)("%s is refused nothing", (version) => {
  it.each([
    ["without TLS", "starttls", { ignoreTLS: true }],
    ["after STARTTLS", "starttls", { requireTLS: true }],
    ["under TLS", "secure", { secure: true }],
  ] as const)("%s", PATIENT, async (_, kind, options) => {
    expect(await refused(transportTo(version, await serverPort(kind), 2, options), MAILS)).toBe(0);
  });
});

it("is refused with one connection more", async () => {
  const transport = transportTo(NEWEST, await serverPort("starttls"), 3, { requireTLS: true });
  expect(await refused(transport, MAILS)).toBeGreaterThan(5);
});

it("is refused nothing beside mail that is aborted", PATIENT, async () => {
  const transport = transportTo(NEWEST, await serverPort("starttls"), 2, { ignoreTLS: true });
  const abort = new AbortController();
  setMaxListeners(MAILS.length, abort.signal); // nodemailer's, one for each message
  setTimeout(() => abort.abort(), 20);
  const mails = MAILS.map((mail, at) => (at % 3 > 0 ? { ...mail, signal: abort.signal } : mail));
  expect(await refused(transport, mails)).toBe(0);
});
