// A lease that ends with its socket, whoever closes what, with real sockets; refusals by a server of another process are in
// test/nodemailer/refusals.test.ts, whose sockets are released in the same way.

import { once } from "node:events";
import { connect, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { describe, expect, it, onTestFinished } from "vitest";
import { freePort } from "../bench/free-port.js";
import { createLimiter, type Lease, parsePolicy, releaseOnClose } from "../src/index.js";
import { type Behaviour, type Receiver, startReceiver } from "./smtp/receiver.js";

const target = { domain: "example.com" };

function held(): { readonly lease: Lease; readonly count: () => number } {
  const limiter = createLimiter(parsePolicy("max_outbound_connections = 1"));
  const lease = limiter.tryAcquire(target)!;
  return { lease, count: () => limiter.snapshot().leases };
}

async function receiver(behaviour: Behaviour = {}): Promise<Receiver> {
  const started = await startReceiver("127.0.0.1", behaviour);
  onTestFinished(async () => started[Symbol.asyncDispose]());
  return started;
}

async function free(count: () => number): Promise<void> {
  await expect.poll(count, { timeout: 20_000 }).toBe(0);
}

/** What is held as soon as the socket is closed and everybody was told so. */
async function atClose(socket: Socket, count: () => number): Promise<number> {
  return new Promise((resolve) => socket.once("close", () => resolve(count())));
}

describe("releaseOnClose", () => {
  it("releases at the close if the receiver was the first to close", async () => {
    const { lease, count } = held();
    const socket = connect((await receiver()).port, "127.0.0.1");
    releaseOnClose(lease, socket);
    await once(socket, "data");
    expect(count()).toBe(1);
    const left = atClose(socket, count);
    socket.write("QUIT\r\n");
    socket.resume();
    expect(await left).toBe(0);
  });

  it.each<[string, (socket: Socket) => void]>([
    ["destroyed", (socket) => socket.destroy()],
    ["destroyed with an error", (socket) => socket.destroy(new Error("enough"))],
    ["reset", (socket) => socket.resetAndDestroy()],
  ])("releases after the close if the socket is %s", async (_, close) => {
    const { lease, count } = held();
    const socket = connect((await receiver()).port, "127.0.0.1");
    socket.on("error", () => {});
    releaseOnClose(lease, socket);
    await once(socket, "data");
    const left = atClose(socket, count);
    close(socket);
    expect(await left).toBe(1);
    await free(count);
  });

  it("releases if nobody listens", async () => {
    const { lease, count } = held();
    const socket = connect(await freePort(), "127.0.0.1");
    releaseOnClose(lease, socket);
    const [error] = await once(socket, "error");
    expect(error).toMatchObject({ code: "ECONNREFUSED" });
    await free(count);
  });

  it("releases a socket that is destroyed before it has connected", async () => {
    const { lease, count } = held();
    const socket = connect((await receiver()).port, "127.0.0.1");
    releaseOnClose(lease, socket);
    socket.destroy();
    await free(count);
  });

  it("releases after the close under TLS, although its session was ended by the receiver", async () => {
    const { lease, count } = held();
    const { port } = await receiver({ secure: true });
    const socket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false });
    releaseOnClose(lease, socket);
    await once(socket, "data");
    const left = atClose(socket, count);
    socket.write("QUIT\r\n");
    socket.resume();
    expect(await left).toBe(1);
    expect(socket.readableEnded).toBe(true);
    await free(count);
  });

  it("releases after the close of the plain socket below TLS", async () => {
    const { lease, count } = held();
    const { port } = await receiver({ secure: true });
    const socket = connect(port, "127.0.0.1");
    releaseOnClose(lease, socket);
    const secure = connectTls({ socket, rejectUnauthorized: false });
    await once(secure, "data");
    const left = atClose(socket, count);
    secure.end("QUIT\r\n");
    secure.resume();
    expect(await left).toBe(1);
    await free(count);
  });

  it("releases a socket that is closed already", async () => {
    const { lease, count } = held();
    const socket = connect((await receiver()).port, "127.0.0.1").destroy();
    await once(socket, "close");
    releaseOnClose(lease, socket);
    await free(count);
  });

  it("keeps what the receiver keeps", async () => {
    const { lease, count } = held();
    const socket = connect((await receiver({ keepsOpen: true })).port, "127.0.0.1");
    releaseOnClose(lease, socket);
    await once(socket, "data");
    socket.end();
    await sleep(200);
    expect(count()).toBe(1);
    socket.destroy();
    await free(count);
  });

  it("destroys the socket of a lease that is lost", async () => {
    const [lost, why] = [new AbortController(), new Error("lost")];
    let released = 0;
    const socket = connect((await receiver()).port, "127.0.0.1");
    releaseOnClose({ lost: lost.signal, release: () => void released++ }, socket);
    await once(socket, "data");
    const failed = once(socket, "error");
    lost.abort(why);
    expect(await failed).toEqual([why]);
    await expect.poll(() => released).toBe(1);
  });

  it("destroys the socket of a lease that was lost before", async () => {
    const why = new Error("lost");
    let released = 0;
    const socket = connect((await receiver()).port, "127.0.0.1");
    releaseOnClose({ lost: AbortSignal.abort(why), release: () => void released++ }, socket);
    await expect(once(socket, "connect")).rejects.toBe(why);
    await expect.poll(() => released).toBe(1);
  });

  it("ends a lease that has moved on with its next socket, not with that of the dial that failed", async () => {
    const limiter = createLimiter(parsePolicy("server_max_outbound_connections = 1"));
    const lease = limiter.tryAcquire({ ...target, host: "mx1.example.com" })!;
    const first = connect(await freePort(), "127.0.0.1");
    releaseOnClose(lease, first);
    await once(first, "error");
    expect(await lease.move({ ...target, host: "mx2.example.com" })).toBe(true);
    const second = connect((await receiver()).port, "127.0.0.1");
    releaseOnClose(lease, second);
    await once(second, "data");
    await sleep(100);
    expect(limiter.snapshot().leases).toBe(1);
    second.destroy();
    await free(() => limiter.snapshot().leases);
  });

  it("calls release as a method", async () => {
    const lease = {
      released: 0,
      release() {
        this.released++;
      },
    };
    const socket = connect((await receiver()).port, "127.0.0.1");
    releaseOnClose(lease, socket);
    socket.destroy();
    await expect.poll(() => lease.released).toBe(1);
  });

  it("needs no signal", async () => {
    let released = 0;
    const socket = connect((await receiver()).port, "127.0.0.1");
    releaseOnClose({ release: () => void released++ }, socket);
    socket.destroy();
    await expect.poll(() => released).toBe(1);
  });

  it.each<[unknown, unknown, string]>([
    [undefined, new Socket(), "lease must have a function release; it is undefined"],
    [Promise.resolve(), new Socket(), "lease must have a function release; it is a promise: await it first"],
    [held().lease, undefined, "socket must be a socket, not undefined"],
    [held().lease, {}, "socket must be a socket, not object"],
  ])("is a TypeError with %o and %o", (lease, socket, message) => {
    expect(() => releaseOnClose(lease as never, socket as never)).toThrow(new TypeError(message));
  });
});
