// What can happen to commands and answers between a sender and the engine: a proxy that reads the protocol of Redis and
// loses, repeats, delays or keeps what it is told to.

import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** What it does from now on, to all connections through it; all nothing at first. */
export interface Faults {
  /** Part of the scripts that run, and whose connection is then cut instead of answered. */
  cutAnswers: number;
  /** Part of the scripts that are sent once more, over another connection, some time later. */
  repeat: number;
  repeatAfter: readonly [from: number, to: number];
  /** Part of the scripts that are held up, and all that is behind them on the connection. */
  delay: number;
  delayBy: readonly [from: number, to: number];
  /** Part of the messages of channels that are lost. */
  losePushes: number;
}

export interface RedisProxy extends AsyncDisposable {
  readonly url: string;
  readonly faults: Faults;
  /** How often each was done. */
  readonly done: { cut: number; repeated: number; delayed: number; lost: number };
  /** Nothing gets through, in neither direction; it is kept until `join`, and then does. */
  part(): void;
  join(): void;
}

export async function startProxy(port: number): Promise<RedisProxy> {
  const faults: Faults = { cutAnswers: 0, repeat: 0, repeatAfter: [0, 0], delay: 0, delayBy: [0, 0], losePushes: 0 };
  const done: RedisProxy["done"] = { cut: 0, repeated: 0, delayed: 0, lost: 0 };
  const sockets = new Set<Socket>();
  let joined: Promise<void> | undefined;
  let join = (): void => {};
  const chance = (part: number): boolean => Math.random() < part;
  const between = ([from, to]: readonly [number, number]): number => from + Math.random() * (to - from);

  const track = (socket: Socket): Socket => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    return socket.on("error", () => {});
  };
  // Its answers are read by nobody: to the engine it is one more connection.
  const repeatLater = async (command: Buffer): Promise<void> => {
    await sleep(between(faults.repeatAfter));
    const socket = track(connect(port, "127.0.0.1"));
    socket.resume().write(command);
    done.repeated++;
    await sleep(1_000);
    socket.destroy();
  };

  const server = createServer((client) => {
    const engine = track(connect(port, "127.0.0.1"));
    track(client);
    let isCut = false;
    client.on("close", () => engine.destroy());
    engine.on("close", () => client.destroy());

    const up = async (command: Buffer): Promise<void> => {
      const isScript = /^\*\d+\r\n\$\d+\r\neval/i.test(command.toString("latin1", 0, 40));
      if (isScript && chance(faults.delay)) {
        done.delayed++;
        await sleep(between(faults.delayBy));
      }
      await joined;
      if (isScript && chance(faults.repeat)) void repeatLater(command);
      isCut ||= isScript && chance(faults.cutAnswers);
      engine.write(command);
    };
    const down = async (answer: Buffer): Promise<void> => {
      await joined;
      if (isCut) {
        if (!client.destroyed) done.cut++;
        client.destroy();
      } else if (isMessage(answer) && chance(faults.losePushes)) {
        done.lost++;
      } else {
        client.write(answer);
      }
    };
    eachValue(client, up);
    eachValue(engine, down);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");

  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    faults,
    done,
    part: () => {
      joined ??= new Promise((resolve) => {
        join = resolve;
      });
    },
    join: () => {
      joined = undefined;
      join();
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** Passes values on whole, one after the other. */
function eachValue(socket: Socket, pass: (value: Buffer) => Promise<void>): void {
  let rest: Buffer = Buffer.alloc(0);
  let last = Promise.resolve();
  socket.on("data", (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (let end = endOf(rest, 0); end !== -1; end = endOf(rest, 0)) {
      const value = rest.subarray(0, end);
      rest = rest.subarray(end);
      last = last.then(async () => pass(value));
    }
  });
}

/** Where the value that begins there ends; -1 if it is not all there. */
function endOf(bytes: Buffer, start: number): number {
  const line = bytes.indexOf("\r\n", start);
  if (line === -1) return -1;
  const type = String.fromCharCode(Number(bytes[start]));
  const size = Number(bytes.toString("latin1", start + 1, line));
  let end = line + 2;
  if ("$=!".includes(type)) {
    if (size >= 0) end += size + 2;
    return end <= bytes.length ? end : -1;
  }
  const values = "*~>".includes(type) ? size : type === "%" ? 2 * size : 0;
  for (let value = 0; value < values; value++) {
    end = endOf(bytes, end);
    if (end === -1) return -1;
  }
  return end;
}

function isMessage(answer: Buffer): boolean {
  return /^[*>]\d+\r\n\$\d+\r\ns?message\r\n/.test(answer.toString("latin1", 0, 40));
}
