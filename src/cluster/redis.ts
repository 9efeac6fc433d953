// The engine on Redis or Valkey: each statement is one script, run through the user's client.

import { ClusterError } from "../errors.js";
import type { Milliseconds } from "../types.js";
import { Client, type Listening } from "./clients.js";
import type { Engine, MemberInfo, Push, Reply, Statement } from "./engine.js";
import { MEMBERS, REAP, SYNC } from "./scripts.js";
import {
  type Call,
  channelsOf,
  membersCall,
  type NameSpace,
  parseMembers,
  parsePush,
  parseReap,
  parseReply,
  reapCall,
  statementCall,
} from "./wire.js";

/** An answer is waited for this long, or a beat where that is shorter. */
const DEADLINE: Milliseconds = 1_000;
const BEATS = 5;

/** As other processes may come and go while members are listed, that is tried so often. */
const MOST_LISTINGS = 10;

/**
 * What the key is called once the client has put its own prefix in front, and what the server says of its memory, where
 * that is allowed. By a script, as that goes where the key is.
 */
const LOOK = `local memory = redis.pcall("INFO", "memory")
return { KEYS[1], type(memory) == "string" and memory or "" }`;

/** One who listens, from before it can until after. */
interface Hearing {
  readonly member: string;
  readonly hear: (push: Push) => void;
  listening: Listening | undefined;
}

export class RedisEngine implements Engine {
  readonly ttl: Milliseconds;
  readonly #space: NameSpace;
  readonly #client: Client;
  readonly #hearings = new Set<Hearing>();
  /** What the client puts in front of keys, once the server was looked at. Messages are published under such names. */
  #keyPrefix: Promise<string> | undefined;
  #known: readonly string[] = [];

  /** @throws {TypeError} not a client, or one that cannot run scripts */
  constructor(client: unknown, space: NameSpace) {
    this.#client = new Client(client, Math.min(DEADLINE, space.ttl / BEATS));
    this.#space = space;
    this.ttl = space.ttl;
  }

  async state(statement: Statement): Promise<Reply> {
    const raw = await this.#call(SYNC, (isFresh) =>
      statementCall(statement, this.#space, {
        isFresh,
        isTrusted: this.#client.countsListeners,
        listens: this.#listens(statement.member),
      }),
    );
    return parseReply(raw);
  }

  async reap(member: string): Promise<void> {
    let hasMore = true;
    while (hasMore) {
      const isTrusted = this.#client.countsListeners;
      hasMore = parseReap(await this.#call(REAP, (isFresh) => reapCall(member, this.#space, { isFresh, isTrusted })));
    }
  }

  async members(): Promise<readonly MemberInfo[]> {
    for (let tries = 0; tries < MOST_LISTINGS; tries++) {
      const listed = parseMembers(await this.#call(MEMBERS, () => membersCall(this.#known, this.#space)));
      if ("members" in listed) {
        this.#known = listed.members.map(({ id }) => id);
        return listed.members;
      }
      this.#known = listed.again;
    }
    throw new ClusterError("The members of the cluster change faster than they can be listed");
  }

  listen(member: string, hear: (push: Push) => void): Disposable {
    const hearing: Hearing = { member, hear, listening: undefined };
    this.#hearings.add(hearing);
    return {
      [Symbol.dispose]: () => {
        this.#hearings.delete(hearing);
        hearing.listening?.[Symbol.dispose]();
      },
    };
  }

  #listens(member: string): boolean {
    return [...this.#hearings].some((hearing) => hearing.member === member && hearing.listening?.active === true);
  }

  async #call(script: string, make: (isFresh: boolean) => Call): Promise<unknown> {
    this.#keyPrefix ??= this.#look();
    const looking = this.#keyPrefix;
    try {
      this.#openListeners(await looking);
    } catch (error) {
      if (this.#keyPrefix === looking) this.#keyPrefix = undefined;
      throw error;
    }
    const { keys, args } = make(false);
    return this.#client.call(script, keys, (isFresh) => {
      if (!isFresh) return args;
      // It may be another server, with other settings.
      this.#keyPrefix = undefined;
      return make(true).args;
    });
  }

  /** @throws {ClusterError} a server that may drop the counts at any time */
  async #look(): Promise<string> {
    const { keys } = membersCall([], this.#space);
    const [key, memory] = (await this.#client.call(LOOK, keys, () => [])) as readonly [string, string];
    const policy = /^maxmemory_policy:(allkeys-\S+)/m.exec(memory)?.[1];
    if (policy !== undefined && !/^maxmemory:0\s*$/m.test(memory)) {
      throw new ClusterError(
        `The engine of the cluster has maxmemory-policy ${policy}, and so may drop what processes hold: it must be noeviction`,
      );
    }
    return key.slice(0, key.length - String(keys[0]).length);
  }

  #openListeners(keyPrefix: string): void {
    for (const hearing of this.#hearings) {
      const { member, hear } = hearing;
      const channels = channelsOf(this.#space.prefix, member).map((channel) => keyPrefix + channel);
      hearing.listening ??= this.#client.listen(channels, {
        message: (channel, text) => {
          const push = parsePush(this.#space.prefix, member, channel.slice(keyPrefix.length), text);
          if (push !== undefined) hear(push);
        },
        begin: () => hear({ kind: "missed" }),
      });
    }
  }
}
