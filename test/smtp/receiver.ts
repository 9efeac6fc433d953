// The other side: an SMTP server that counts its own connections, and breaks off, refuses or stalls where it is told to.

import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { createSecureContext, TLSSocket } from "node:tls";

export type Phase = "greeting" | "ehlo" | "starttls" | "mail" | "rcpt" | "data" | "dot" | "quit";
/**
 * What a session does in a phase, instead of its part: no answer ever, the end of the connection, or a reply; "deaf": it
 * does its part, and never reads again.
 */
export type Fault = "stall" | "drop" | "reset" | "deaf" | `${number} ${string}`;

export interface Behaviour {
  /** @default a free one */
  readonly port?: number;
  readonly starttls?: boolean;
  /** Under TLS from the start. */
  readonly secure?: boolean;
  /** It does not close a connection because the other side does. */
  readonly keepsOpen?: boolean;
  /** How long it looks at each message, in milliseconds; or until that has settled. */
  readonly look?: number | Promise<unknown>;
  /** In this phase, the first so many sessions that reach it. */
  readonly fault?: { readonly phase: Phase; readonly fault: Fault; readonly times: number };
}

export interface Receiver extends AsyncDisposable {
  readonly address: string;
  readonly port: number;
  /** By source address: connections open now, and the most at once. */
  readonly open: ReadonlyMap<string, number>;
  readonly peak: ReadonlyMap<string, number>;
  /** Recipients whose mail it took, in this order. */
  readonly took: readonly string[];
  /** Sessions that took mail under TLS. */
  readonly secured: number;
  /** Of the fault, how many sessions had it. */
  readonly faults: number;
}

/** Connections to several receivers together. */
export interface Total {
  open: number;
  peak: number;
}

const NEXT: Readonly<Record<string, Phase>> = {
  EHLO: "ehlo",
  HELO: "ehlo",
  STARTTLS: "starttls",
  MAIL: "mail",
  RCPT: "rcpt",
  DATA: "data",
  QUIT: "quit",
};
const REPLIES: Readonly<Record<Phase, string>> = {
  greeting: "220 mx.example ESMTP",
  ehlo: "250 mx.example",
  starttls: "220 Go ahead",
  mail: "250 OK",
  rcpt: "250 OK",
  data: "354 Send it",
  dot: "250 Taken",
  quit: "221 Bye",
};

export async function startReceiver(
  address: string,
  behaviour: Behaviour = {},
  total: Total = { open: 0, peak: 0 },
): Promise<Receiver> {
  const [open, peak, took] = [new Map<string, number>(), new Map<string, number>(), [] as string[]];
  const sockets = new Set<Socket>();
  let [secured, faults] = [0, 0];

  const session = (accepted: Socket): void => {
    const from = String(accepted.remoteAddress);
    count(from, 1);
    sockets.add(accepted);
    let socket: Socket = accepted;
    let [rcpt, inData, text] = ["", false, ""];

    // It is over for a receiver when it has sent its FIN, or the connection broke: a sender learns it later than that.
    let isOver = false;
    const over = (): void => {
      if (isOver) return;
      isOver = true;
      count(from, -1);
      sockets.delete(accepted);
    };
    accepted.on("close", over);

    const reply = (line: string): void => void socket.write(`${line}\r\n`);
    const answer = async (phase: Phase): Promise<void> => {
      if (behaviour.fault?.phase === phase && faults < behaviour.fault.times) {
        faults++;
        const { fault } = behaviour.fault;
        if (fault === "drop") return end();
        if (fault === "reset") return void accepted.resetAndDestroy();
        if (fault === "deaf") socket.pause();
        if (fault !== "stall") reply(fault === "deaf" ? REPLIES[phase] : fault);
        return;
      }
      if (phase === "dot") {
        await (typeof behaviour.look === "object" ? behaviour.look : sleep(behaviour.look ?? 0));
        if (socket.destroyed) return;
        took.push(rcpt);
        if (socket !== accepted) secured++;
      }
      if (phase === "ehlo" && behaviour.starttls && socket === accepted) reply("250-STARTTLS");
      reply(REPLIES[phase]);
      if (phase === "data") inData = true;
      if (phase === "starttls") secure();
      if (phase === "quit") end();
    };
    const end = (): void => {
      over();
      socket.end();
    };
    const hear = (chunk: Buffer): void => {
      text += chunk.toString("latin1");
      for (let at = text.indexOf("\r\n"); at >= 0; at = text.indexOf("\r\n")) {
        const line = text.slice(0, at);
        text = text.slice(at + 2);
        if (inData) {
          if (line !== ".") continue;
          inData = false;
          void answer("dot");
          continue;
        }
        const verb = line.slice(0, 8).split(" ")[0]!.toUpperCase();
        if (verb === "RCPT") rcpt = line.slice(line.indexOf("<") + 1, line.indexOf(">"));
        const phase = NEXT[verb];
        if (phase === undefined) reply("500 What?");
        else void answer(phase);
      }
    };
    const listen = (to: Socket): void => {
      to.on("data", hear);
      to.on("error", () => {}); // a sender that breaks off
      to.on("close", over);
    };
    const secure = (): void => {
      accepted.off("data", hear);
      socket = new TLSSocket(accepted, {
        isServer: true,
        secureContext: createSecureContext({ key: KEY, cert: CERT }),
      });
      listen(socket);
    };
    listen(accepted);
    if (behaviour.secure) secure();
    void answer("greeting");
  };
  const count = (from: string, change: 1 | -1): void => {
    const now = (open.get(from) ?? 0) + change;
    open.set(from, now);
    peak.set(from, Math.max(peak.get(from) ?? 0, now));
    total.open += change;
    total.peak = Math.max(total.peak, total.open);
  };

  const server = createServer({ allowHalfOpen: behaviour.keepsOpen === true }, session).listen(
    behaviour.port ?? 0,
    address,
  );
  await once(server, "listening");
  return {
    address,
    port: (server.address() as AddressInfo).port,
    open,
    peak,
    took,
    get secured() {
      return secured;
    },
    get faults() {
      return faults;
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** For nobody but these tests: of a host that there is not. */
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg7STOrPmlIbzPbBJ5
gPVG9/tni0niEr/+LaJ/gkMDhGWhRANCAAQeIt5wt3u9ezg4ezEHHCGnSSISGgqN
jX/4j++VLVYfSeCmh7Ifgu3Z467BMfv2y1gwDDt8AzloivmC5dwAfWhX
-----END PRIVATE KEY-----`;
const CERT = `-----BEGIN CERTIFICATE-----
MIIBgDCCASegAwIBAgIUH/drwmBDCOjDLqELMpM7J6CDtlYwCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKbXguZXhhbXBsZTAgFw0yNjExMjQxODU5MTBaGA8yMTI2MTAz
MTE4NTkxMFowFTETMBEGA1UEAwwKbXguZXhhbXBsZTBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABB4i3nC3e717ODh7MQccIadJIhIaCo2Nf/iP75UtVh9J4KaHsh+C
7dnjrsEx+/bLWDAMO3wDOWiK+YLl3AB9aFejUzBRMB0GA1UdDgQWBBThNt4+sKXo
j8iAtNVRZm7/Z4XVHjAfBgNVHSMEGDAWgBThNt4+sKXoj8iAtNVRZm7/Z4XVHjAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0cAMEQCIFwADPn81QM5hl8MS8pS
4KaTIwVV4LmBGH6x+NQRvQGgAiB/k8zYjF5kksQBs+05oUYkzRDKSAxmKPd4QsAl
VGAf5w==
-----END CERTIFICATE-----`;
