// Connections that somebody else makes: nodemailer for its option `proxy`, and dials of users.

import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { connect as connectTls } from "node:tls";
import { afterEach, beforeEach, expect, it, onTestFinished, vi } from "vitest";
import { createLimiter, type LocalLimiter, parsePolicy } from "../../src/index.js";
import { type Dial, limitedSocket } from "../../src/nodemailer.js";
import { MAIL, NEWEST, receiver, type Transport, transportOf, VERSIONS } from "./shared.js";
import { countSockets, type SocketCounts } from "./sockets.js";

const TARGET = { domain: "example.com" };
const mails = (transport: Transport, many: number) =>
  Promise.all(Array.from({ length: many }, () => transport.sendMail(MAIL)));

let limiter: LocalLimiter;
let sockets: SocketCounts;
beforeEach(() => {
  limiter = createLimiter(parsePolicy("max_outbound_connections = 2"));
  sockets = countSockets();
});
afterEach(() => {
  sockets[Symbol.dispose]();
});

it.each(VERSIONS)("%s takes the options that a dial gives with its socket", async (version) => {
  const { port, took, peak } = await receiver({ secure: true, look: 5 });
  // Without `secured` there would be a second TLS in it.
  const dial: Dial = ({ host, port: to }, callback) => {
    const connection = connectTls({ host, port: to, rejectUnauthorized: false }, () =>
      callback(null, { connection, secured: true }),
    );
  };
  for (const pool of [false, true]) {
    const transport = transportOf(version, {
      ...{ port, pool, secure: true, getSocket: limitedSocket(limiter, () => TARGET, {}, dial) },
    });
    await mails(transport, 6);
    transport.close();
  }
  expect(took.length).toBe(12);
  expect([...peak.values()]).toEqual([2]);
  await vi.waitFor(() => expect(limiter.snapshot().leases).toBe(0));
});

it("destroys a socket that comes with an error, or is one more", async () => {
  const { port, took } = await receiver();
  const withError: Dial = ({ port: to }, callback) => {
    const connection = connect(to, "127.0.0.1", () => callback(new Error("half"), { connection }));
  };
  const twice: Dial = ({ port: to }, callback) => {
    for (let i = 0; i < 2; i++) {
      const connection = connect(to, "127.0.0.1", () => callback(null, { connection }));
    }
  };
  const by = (dial: Dial) => transportOf(NEWEST, { port, getSocket: limitedSocket(limiter, () => TARGET, {}, dial) });
  await expect(by(withError).sendMail(MAIL)).rejects.toThrow("half");
  await by(twice).sendMail(MAIL);
  expect(took.length).toBe(1);
  await vi.waitFor(() => expect([sockets.total(port), sockets.open(port)]).toEqual([3, 0]));
  expect(limiter.snapshot().leases).toBe(0);
});

// Older ones lose a greeting that comes as soon as the tunnel is open, with or without the limiter.
it("nodemailer goes through its own proxy", async () => {
  const [{ port, took }, proxy] = [await receiver({ look: 5 }), await startProxy()];
  const options = { port, proxy: `http://127.0.0.1:${proxy.port}` };
  for (const pool of [false, true]) {
    const transport = transportOf(NEWEST, { ...options, pool, maxConnections: 10 });
    transport.getSocket = limitedSocket(limiter, () => TARGET, {}, transport.getSocket);
    await mails(transport, 10);
    transport.close();
  }
  const lease = await limiter.acquire(TARGET);
  const other = await limiter.acquire(TARGET);
  const transport = transportOf(NEWEST, { ...options, connectionTimeout: 200 });
  transport.getSocket = limitedSocket(limiter, () => TARGET, {}, transport.getSocket);
  setTimeout(() => {
    lease.release();
    other.release();
  }, 400); // which is none of the time to connect
  await mails(transport, 1);
  expect(took.length).toBe(21);
  expect([proxy.peak(), sockets.peak(proxy.port)]).toEqual([2, 2]);
  await vi.waitFor(() => expect([...limiter.leases()]).toEqual([]));
});

/** An HTTP proxy that counts the tunnels that are open. */
async function startProxy(): Promise<{ readonly port: number; peak(): number }> {
  let [open, peak] = [0, 0];
  const proxy = createServer().on("connect", ({ url }, client, head) => {
    peak = Math.max(peak, ++open);
    const [host, port] = String(url).split(":");
    const upstream = connect(Number(port), host, () => {
      client.write("HTTP/1.1 200 OK\r\n\r\n");
      upstream.write(head);
      upstream.pipe(client).pipe(upstream);
    });
    client.once("close", () => {
      open--;
      upstream.destroy();
    });
    for (const socket of [client, upstream]) socket.on("error", () => {});
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  onTestFinished(() => void proxy.close());
  return { port: (proxy.address() as AddressInfo).port, peak: () => peak };
}
