// sender.ts: sends the traffic over real SMTP, with the limiter or without: the one difference is the `Gate`.
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import SMTPConnection from "nodemailer/lib/smtp-connection";
import { type Limiter, releaseOnClose, type Target } from "../../src/index.js";
import type { Receivers } from "./receivers.js";
import { type Batch, sources } from "./traffic.js";

/** Asked before each connection, resolves when it may be opened; what it gives is called once the connection is closed. */
export type Gate = (target: Target) => Promise<() => void>;

/** The limiter as a gate. All a sender needs: acquire before it connects, release on the socket's close. */
export function limited(limiter: Limiter, signal: AbortSignal): Gate {
  return async (target) => (await limiter.acquire(target, { signal })).release;
}

/** What a sender does that has no limiter: a number of workers for each binding and domain. */
export function unlimited(workers: number): Gate {
  const routes = new Map<string, { idle: number; readonly waiting: (() => void)[] }>();
  return async ({ binding, domain }) => {
    const key = `${binding} ${domain}`;
    const route = routes.get(key) ?? { idle: workers, waiting: [] };
    routes.set(key, route);
    if (route.idle > 0) route.idle--;
    else await new Promise<void>((go) => route.waiting.push(go));
    return () => {
      const next = route.waiting.shift();
      if (next) next();
      else route.idle++;
    };
  };
}

export interface Progress {
  delivered: number;
  /** Messages given up after the last refusal. */
  deferred: number;
  /** Connections open. */
  open: number;
  /** Batches at the gate. */
  waiting: number;
}

const attempts = 4;

/** Sends every batch when it arrives and keeps `progress` up to date meanwhile. */
export async function send(
  batches: readonly Batch[],
  receivers: Receivers,
  gate: Gate,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  await Promise.all(
    batches.map(async (batch) => {
      await pause(batch.arrivesAt, undefined, { signal });
      let left = batch.messages;
      for (let attempt = 1; left > 0 && attempt <= attempts; attempt++) {
        if (attempt > 1) await pause(attempt * 200, undefined, { signal });
        left -= await connectAndSend(batch, left);
      }
      progress.deferred += left;
    }),
  );

  /** One connection, from the gate to its close. Says how many messages were taken, which is fewer after a 421. */
  async function connectAndSend(batch: Batch, messages: number): Promise<number> {
    const { binding, domain } = batch;
    const { host, address, port } = receivers.mx(domain);
    progress.waiting++;
    const release = await gate({ binding, domain, host }).finally(() => progress.waiting--);

    const socket = connect({ host: address, port, localAddress: sources.get(binding), signal });
    // Tied to the socket and not to the work below, which is done earlier: nodemailer says "end" as soon as it has
    // asked for the close, and until the receiver has answered that, the receiver counts this connection.
    releaseOnClose({ release }, socket);
    return sendOver(socket, { ...batch, messages }, progress);
  }
}

/** Sends over a socket that was just made, until that is closed. Says how many messages were taken. */
export async function sendOver(
  socket: Socket,
  { binding, domain, messages }: Omit<Batch, "arrivesAt">,
  progress: Pick<Progress, "delivered" | "open">,
): Promise<number> {
  progress.open++;
  const closed = new Promise((resolve) => socket.once("close", resolve)).finally(() => progress.open--);
  let taken = 0;
  try {
    const smtp = await startSession(socket, `${binding}.sender.example`);
    for (; taken < messages; taken++, progress.delivered++) await sendMessage(smtp, domain);
    smtp.quit();
  } catch (error) {
    const tooMany = error instanceof Error && "responseCode" in error && error.responseCode === 421;
    if (!tooMany) {
      socket.destroy(); // nobody else would end it
      throw error;
    }
  } finally {
    await closed;
  }
  return taken;
}

async function startSession(socket: Socket, name: string): Promise<SMTPConnection> {
  await once(socket, "connect");
  // The close is the receiver's to make: giving up on it after the usual 5 s would release a slot that is not free.
  const smtp = new SMTPConnection({ connection: socket, name, socketCloseTimeout: 60_000 });
  await new Promise<void>((resolve, reject) => {
    smtp.on("error", reject); // a 421 in place of the greeting comes here
    smtp.connect((error) => (error ? reject(error) : resolve()));
  });
  return smtp;
}

async function sendMessage(smtp: SMTPConnection, domain: string): Promise<void> {
  const envelope = { from: `news@${smtp.name}`, to: `someone@${domain}` };
  const text = `From: <${envelope.from}>\r\nTo: <${envelope.to}>\r\nSubject: Hello\r\n\r\nHello, ${domain}!\r\n`;
  await new Promise<void>((resolve, reject) => {
    smtp.once("error", reject); // of a socket that breaks, the message itself hears nothing
    smtp.send(envelope, text, (error) => {
      smtp.off("error", reject);
      if (error) reject(error);
      else resolve();
    });
  });
}
