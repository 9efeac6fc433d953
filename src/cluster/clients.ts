// The user's own client, whichever it is, as far as the cluster limits use it: scripts by their hash, each call under a
// deadline of ours, and messages over a connection of its own. Clients are known by what they can do; none is imported.

import { createHash } from "node:crypto";
import debug from "debug";
import type { Milliseconds } from "../types.js";
import type { Driver, RunScript, Script } from "./driver.js";
import { ioredisDriver } from "./ioredis.js";
import { nodeRedisDriver } from "./node-redis.js";

const log = debug("outbound-limiter:redis");

/** A subscriber that gave up is replaced after this long. */
const SUBSCRIBE_AGAIN: Milliseconds = 5_000;
/** So many calls without an answer in so long a time: no more are handed to a client that may keep them all. */
const MOST_UNANSWERED = 8;
const UNANSWERED_COUNT_FOR: Milliseconds = 60_000;

/** Disposing of it ends the connection. */
export interface Listening extends Disposable {
  /** Whether messages come through, at the moment. */
  readonly active: boolean;
}

export interface Listener {
  message(channel: string, text: string): void;
  /** Messages come through from now on. Earlier ones may have been missed. */
  begin(): void;
}

/** Runs scripts, and listens. */
export class Client {
  readonly #driver: Driver;
  readonly #deadline: Milliseconds;
  readonly #scripts = new Map<string, Script>();
  /** Calls that are past their deadline, and still unanswered. */
  readonly #unanswered = new Set<{ readonly sent: Milliseconds }>();

  /**
   * @param deadline for each call
   * @throws {TypeError} not a client, or one that cannot work
   */
  constructor(client: unknown, deadline: Milliseconds) {
    this.#driver = driverFor(client);
    this.#deadline = deadline;
  }

  /** Whether the number that `PUBLISH` answers is all who listen; on a cluster it leaves out those on other nodes. */
  get countsListeners(): boolean {
    return this.#driver.isSingle;
  }

  /**
   * Runs a script.
   *
   * @param args made anew for each time it is sent; `fresh` says that the engine did not know the script, as after a
   *   restart
   * @returns its reply, with every number and buffer made a string
   * @throws when the engine or the client says so, or the deadline has passed: then it may have been run, or may yet be
   */
  async call(text: string, keys: readonly string[], args: (fresh: boolean) => readonly string[]): Promise<unknown> {
    this.#refuseMore();
    const call = { sent: performance.now() };
    let late = false;
    let timer: NodeJS.Timeout | undefined;
    const tooLate = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        late = true;
        this.#unanswered.add(call);
        reject(new Error(`The engine did not answer within ${this.#deadline} ms`));
      }, this.#deadline).unref();
    });
    const run = async (): Promise<unknown> => {
      const script = this.#script(text);
      try {
        return await this.#driver.evalsha(script, keys, args(false));
      } catch (error) {
        if (late || !/NOSCRIPT|No matching script/.test(messageOf(error))) throw error;
        return await this.#driver.eval(script, keys, args(true));
      } finally {
        this.#unanswered.delete(call);
      }
    };
    try {
      // Where the answer loses the race, the race still handles it: what comes after the deadline concerns nobody.
      return textsOf(await Promise.race([run(), tooLate]));
    } catch (error) {
      // Anew: a client's error may hold the command that failed, and that may be AUTH with the password.
      throw new Error(messageOf(error));
    } finally {
      clearTimeout(timer);
    }
  }

  #script(text: string): Script {
    let script = this.#scripts.get(text);
    if (script === undefined) {
      script = { text, hash: createHash("sha1").update(text).digest("hex") };
      this.#scripts.set(text, script);
    }
    return script;
  }

  /** A client that is not connected may keep what it is given; in a long outage that has to end somewhere. */
  #refuseMore(): void {
    const recent = performance.now() - UNANSWERED_COUNT_FOR;
    for (const call of this.#unanswered) if (call.sent < recent) this.#unanswered.delete(call);
    if (this.#unanswered.size >= MOST_UNANSWERED) {
      throw new Error(`The engine has left the last ${this.#unanswered.size} calls without an answer`);
    }
  }

  /**
   * Listens as soon and as long as that is possible, over a duplicate of the client.
   *
   * @returns `undefined` for a client that has no way to listen
   */
  listen(channels: readonly string[], listener: Listener): Listening | undefined {
    const { subscribe } = this.#driver;
    return subscribe === undefined ? undefined : new Subscription(subscribe, channels, listener);
  }
}

/** Messages, over one subscriber after the other. */
class Subscription implements Listening {
  readonly #subscribe: NonNullable<Driver["subscribe"]>;
  readonly #channels: readonly string[];
  readonly #listener: Listener;
  #subscriber: Disposable | undefined;
  #again: NodeJS.Timeout | undefined;
  #active = false;
  #ended = false;

  constructor(subscribe: NonNullable<Driver["subscribe"]>, channels: readonly string[], listener: Listener) {
    this.#subscribe = subscribe;
    this.#channels = channels;
    this.#listener = listener;
    this.#open();
  }

  get active(): boolean {
    return this.#active;
  }

  #open(): void {
    let current = true;
    const give = (): boolean => current && !this.#ended;
    this.#subscriber = this.#subscribe(this.#channels, {
      message: (channel, text) => {
        if (give()) this.#listener.message(channel, text);
      },
      up: () => {
        if (!give()) return;
        this.#active = true;
        this.#listener.begin();
      },
      down: () => {
        if (give()) this.#active = false;
      },
      end: (error) => {
        if (!give()) return;
        current = false;
        this.#active = false;
        log("does not listen, tries again in %d ms: %s", SUBSCRIBE_AGAIN, messageOf(error));
        this.#subscriber?.[Symbol.dispose]();
        this.#again = setTimeout(() => this.#open(), SUBSCRIBE_AGAIN).unref();
      },
    });
  }

  [Symbol.dispose](): void {
    this.#ended = true;
    this.#active = false;
    clearTimeout(this.#again);
    this.#subscriber?.[Symbol.dispose]();
  }
}

function driverFor(client: unknown): Driver {
  if (typeof client === "function") return functionDriver(client as RunScript);
  const driver =
    typeof client === "object" && client !== null ? (nodeRedisDriver(client) ?? ioredisDriver(client)) : undefined;
  if (driver !== undefined) return driver;
  const given = typeof client === "object" ? (client === null ? "null" : "another object") : typeof client;
  throw new TypeError(
    `redisCluster needs a client of ioredis, iovalkey or redis (node-redis), or a function that runs a script: ${given} is neither`,
  );
}

/** The function sees to loading the script itself. */
function functionDriver(run: RunScript): Driver {
  const evaluate = async ({ text }: Script, keys: readonly string[], args: readonly string[]): Promise<unknown> =>
    run(text, keys, args);
  return { isSingle: false, evalsha: evaluate, eval: evaluate };
}

/** Clients can be told to answer with buffers for texts, or with numbers for none. */
function textsOf(reply: unknown): unknown {
  if (Array.isArray(reply)) return reply.map(textsOf);
  if (Buffer.isBuffer(reply)) return reply.toString();
  return typeof reply === "number" || typeof reply === "bigint" ? String(reply) : reply;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
