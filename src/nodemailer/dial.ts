// Connections for nodemailer: dialled here or by somebody else, and destroyed when the other side does not close them.

import { connect, isIP, type Socket } from "node:net";
import { addAbortSignal } from "node:stream";
import type { Milliseconds } from "../types.js";

/** The options of a transport; of all that it has, these say where a connection goes, and how long it may take. */
export interface TransportOptions {
  readonly host?: string | undefined;
  readonly port?: number | string | undefined;
  readonly secure?: boolean | undefined;
  readonly localAddress?: string | undefined;
  /** For all from the dial to the greeting. */
  readonly connectionTimeout?: Milliseconds | undefined;
  /** Since when that counts, as `Date.now()`; not in every version of nodemailer. */
  readonly connectStartedAt?: number | undefined;
  /** How long nothing may come or go. */
  readonly socketTimeout?: Milliseconds | undefined;
  /** How long the other side may take to close a connection that is closed on this one; not in every version. */
  readonly socketCloseTimeout?: Milliseconds | undefined;
  readonly [option: string]: unknown;
}

/** What a dial gives: a socket, and with it options that this connection has instead of the transport's. */
export interface Dialled {
  readonly connection?: Socket | undefined;
  readonly [option: string]: unknown;
}

/** How nodemailer asks for a connected socket: its option `getSocket`, and `transport.getSocket`, which it has for a `proxy`. */
export type Dial = (
  // biome-ignore lint/suspicious/noExplicitAny: nodemailer's own types differ from version to version
  options: any,
  callback: (error: Error | null, dialled?: Dialled | false) => void,
) => void;

interface Connected extends Dialled {
  readonly connection: Socket;
}

/** What nodemailer merges into the options of a connection. */
export interface SocketOptions extends Connected {
  readonly connectionTimeout: Milliseconds;
}

/** nodemailer's own defaults. */
const CONNECTION_TIMEOUT: Milliseconds = 2 * 60_000;
const SOCKET_TIMEOUT: Milliseconds = 10 * 60_000;
/** How long a receiver may take to answer QUIT while somebody waits for the slot, and to close what is closed here. */
const CLOSE_TIMEOUT: Milliseconds = 5_000;
const LONGEST_TIMEOUT: Milliseconds = 2 ** 31 - 1;

/** A connected socket, destroyed on `giveUp`; which this aborts after `connectionTimeout`, that begins here. */
export async function dialled(
  dial: Dial | false | undefined,
  options: TransportOptions,
  giveUp: AbortController,
): Promise<SocketOptions> {
  giveUp.signal.throwIfAborted();
  const now = Date.now();
  const timeout = Number(options.connectionTimeout) || CONNECTION_TIMEOUT;
  const timer = setTimeout(() => giveUp.abort(asOfNodemailer(new Error("Connection timeout"), "ETIMEDOUT")), timeout);
  try {
    const since = { ...options, connectStartedAt: now };
    const connected = await (dial ? dialBy(dial, since, giveUp.signal) : dialTcp(since, giveUp.signal));
    const waited = Math.max(0, now - (Number(options.connectStartedAt) || now));
    return { ...connected, connectionTimeout: waited + timeout };
  } finally {
    clearTimeout(timer);
  }
}

/** A TCP connection. Rejects once there is none, and there will be none. */
function dialTcp({ host, port, secure, localAddress }: TransportOptions, giveUp: AbortSignal): Promise<Connected> {
  const connection = connect({
    host: host || "localhost",
    port: Number(port) || (secure ? 465 : 587),
    // From an address of one family the other cannot be reached.
    ...(localAddress && { localAddress, family: isIP(localAddress) }),
  });
  addAbortSignal(giveUp, connection);
  return new Promise((resolve, reject) => {
    let trouble: Error & { syscall?: string } = new Error("Connection closed unexpectedly");
    // For ever: what destroys it under a session of TLS is told to nodemailer by that.
    connection.on("error", (error) => {
      trouble = error;
    });
    connection.once("connect", () => resolve({ connection }));
    // Not on "error": it is not closed by then.
    connection.once("close", () => {
      const code = trouble.syscall === "getaddrinfo" ? "EDNS" : "ESOCKET";
      reject(giveUp.aborted ? giveUp.reason : asOfNodemailer(trouble, code));
    });
  });
}

/** What a dial of somebody else gives; a socket that it gives with an error, too late or once more is destroyed. */
function dialBy(dial: Dial, options: TransportOptions, giveUp: AbortSignal): Promise<Connected> {
  return new Promise((resolve, reject) => {
    giveUp.addEventListener("abort", () => reject(giveUp.reason));
    let isAnswered = false;
    dial(options, (error, dialled) => {
      const connection = dialled ? dialled.connection : undefined;
      connection?.on("error", () => {});
      if (error || !connection || isAnswered || giveUp.aborted) {
        connection?.destroy();
        reject(error ?? new Error("dial gave no connection"));
      } else {
        addAbortSignal(giveUp, connection);
        resolve({ ...dialled, connection });
      }
      isAnswered = true;
    });
  });
}

/** A failed connection as nodemailer tells it: who looks at `code` need not know who dialled. */
function asOfNodemailer(error: Error, code: string): Error {
  return Object.assign(error, { originalCode: (error as { code?: unknown }).code, code, command: "CONN" });
}

/**
 * Destroys a connection that is over for this side and that the other does not close: before version 10, nodemailer waits
 * for ever. It shows in its `end`, and under TLS in the silence.
 *
 * @returns the same, for who knows that it is over
 */
export function destroyOnceOver(connection: Socket, options: TransportOptions): () => void {
  const grace = Math.min(Math.max(CLOSE_TIMEOUT, Number(options.socketCloseTimeout) || 0), LONGEST_TIMEOUT);
  let timer: NodeJS.Timeout | undefined;
  const over = (): void => {
    timer ??= setTimeout(() => connection.destroy(), grace).unref();
  };
  const end = connection.end.bind(connection) as (...last: unknown[]) => Socket;
  connection.end = (...last: unknown[]) => {
    over();
    return end(...last);
  };
  const silence = Math.max(Number(options.socketTimeout) || SOCKET_TIMEOUT, Number(options.connectionTimeout) || 0);
  connection.setTimeout(silence).on("timeout", over);
  connection.once("close", () => clearTimeout(timer));
  return over;
}
