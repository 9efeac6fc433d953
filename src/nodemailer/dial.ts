// Connections for nodemailer: dialled here or by somebody else, and destroyed when the other side does not close them.

import { connect, isIP, type Socket } from "node:net";
import { addAbortSignal } from "node:stream";
import { LONGEST_DELAY } from "../clock.js";
import type { Milliseconds } from "../types.js";

/** The options of a transport; of all that it has, these say where a connection goes, and how long it may take. */
export interface TransportOptions {
  readonly host?: string | undefined;
  readonly port?: number | string | undefined;
  readonly secure?: boolean | undefined;
  readonly localAddress?: string | undefined;
  /** For the look-up of the host, the dial, and TLS from the start; in nodemailer 10 STARTTLS as well. */
  readonly connectionTimeout?: Milliseconds | undefined;
  /** Since when that counts, as `Date.now()`; from nodemailer 10 on. */
  readonly connectStartedAt?: number | undefined;
  /** How long nothing may come or go. */
  readonly socketTimeout?: Milliseconds | undefined;
  /** How long the receiver may take to close what was closed here; from nodemailer 10 on. */
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

/** What nodemailer merges into the options of a connection. */
export interface SocketOptions extends Dialled {
  readonly connection: Socket;
}

/** nodemailer's own defaults. */
const CONNECTION_TIMEOUT: Milliseconds = 2 * 60_000;
const SOCKET_TIMEOUT: Milliseconds = 10 * 60_000;
/** How long one address of several may take. Node's own 250 ms are less than a SYN to the other side of the world. */
const ATTEMPT_TIMEOUT: Milliseconds = 2_000;
/** How long a receiver may take to answer QUIT while somebody waits for the slot, and to close what is closed here. */
const CLOSE_TIMEOUT: Milliseconds = 5_000;

/** A connected socket, destroyed on `giveUp`; which this aborts after `connectionTimeout`, that begins here. */
export async function dialled(
  dial: Dial | false | undefined,
  options: TransportOptions,
  giveUp: AbortController,
): Promise<SocketOptions> {
  giveUp.signal.throwIfAborted();
  const now = Date.now();
  const timeout = Number(options.connectionTimeout) || CONNECTION_TIMEOUT;
  const timer = setTimeout(() => {
    const error = Object.assign(new Error("Connection timeout"), { timeoutType: "CONNECT_TIMEOUT" });
    giveUp.abort(asOfNodemailer(error, "ETIMEDOUT"));
  }, timeout);
  try {
    const since = { ...options, connectStartedAt: now };
    const socketOptions = await (dial ? dialBy(dial, since, giveUp.signal) : dialTcp(since, giveUp.signal));
    // Before version 10 it counts from here, else from before the wait for the slot.
    const { connectStartedAt = Date.now() } = options;
    return { ...socketOptions, connectionTimeout: Math.max(1, now + timeout - connectStartedAt) };
  } finally {
    clearTimeout(timer);
  }
}

/** A TCP connection. Rejects once there is none, and there will be none. */
async function dialTcp(options: TransportOptions, giveUp: AbortSignal): Promise<SocketOptions> {
  const { host, port, secure, localAddress } = options;
  let connection: Socket;
  try {
    connection = connect({
      host: host || "localhost",
      port: Number(port) || (secure ? 465 : 587),
      keepAlive: true,
      autoSelectFamilyAttemptTimeout: ATTEMPT_TIMEOUT,
      // From an address of one family the other cannot be reached.
      ...(localAddress && { localAddress, family: isIP(localAddress) }),
    });
  } catch (error) {
    throw asOfNodemailer(error as Error, "ECONNECTION");
  }
  addAbortSignal(giveUp, connection);
  let trouble: SystemError = new Error("Connection closed unexpectedly");
  // Stays: nodemailer listens to its session of TLS alone, once there is one.
  connection.on("error", (error) => {
    trouble = error;
  });
  return new Promise((resolve, reject) => {
    // Not on "error": it is not closed by then.
    const failed = (): void => {
      const code = trouble.syscall === "getaddrinfo" ? "EDNS" : "ESOCKET";
      trouble.message ||= String(trouble.errors?.at(-1)?.message);
      reject(giveUp.aborted ? giveUp.reason : asOfNodemailer(trouble, code));
    };
    connection.once("close", failed);
    connection.once("connect", () => {
      connection.off("close", failed);
      resolve({ connection });
    });
  });
}

/** As Node has it: what went wrong in a call of the system, or with each address of a host. */
type SystemError = Error & { readonly syscall?: string; readonly errors?: readonly Error[] };

/** What a dial of somebody else gives; a socket that it gives with an error, too late or once more is destroyed. */
function dialBy(dial: Dial, options: TransportOptions, giveUp: AbortSignal): Promise<SocketOptions> {
  return new Promise((resolve, reject) => {
    giveUp.addEventListener("abort", () => reject(giveUp.reason));
    let isAnswered = false;
    const promise: unknown = dial(options, (error, given) => {
      const connection = given ? given.connection : undefined;
      connection?.on("error", () => {});
      if (error || !connection || isAnswered) {
        connection?.destroy();
        reject(error ?? new Error("dial gave no connection"));
      } else {
        addAbortSignal(giveUp, connection);
        resolve({ ...given, connection });
      }
      isAnswered = true;
    });
    Promise.resolve(promise).catch(reject);
  });
}

/** A failed connection as nodemailer tells it: who looks at `code` need not know who dialled. */
function asOfNodemailer(error: Error, code: string): Error {
  return Object.assign(error, { originalCode: (error as { code?: unknown }).code, code, command: "CONN" });
}

/**
 * Destroys a connection that is closed here and that the receiver does not close; nodemailer does so from version 10 on.
 * It calls `end` of a plain socket. Under TLS it calls that of its session, which does not show here, but nothing comes or
 * goes any more.
 *
 * @returns destroys it soon as well, for who knows that it is closed here
 */
export function destroyOnceEnded(connection: Socket, options: TransportOptions): () => void {
  const grace = Math.min(Math.max(CLOSE_TIMEOUT, Number(options.socketCloseTimeout) || 0), LONGEST_DELAY);
  const silence = Math.min(Number(options.socketTimeout) || SOCKET_TIMEOUT, LONGEST_DELAY);
  let timer: NodeJS.Timeout | undefined;
  const destroySoon = (): void => {
    if (!connection.closed) timer ??= setTimeout(() => connection.destroy(), grace).unref();
  };
  const end = connection.end.bind(connection) as (...last: unknown[]) => Socket;
  connection.end = (...last: unknown[]) => {
    destroySoon();
    return end(...last);
  };
  connection.setTimeout(silence).on("timeout", destroySoon);
  connection.once("close", () => clearTimeout(timer));
  return destroySoon;
}
