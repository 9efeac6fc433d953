// How statements, replies and pushes travel to the scripts and back. Pure: nothing is sent here.

import type { Milliseconds } from "../types.js";
import type { MemberInfo, Push, Reply, Standing, Statement } from "./engine.js";

/** Keys and arguments of a script. */
export interface Call {
  readonly keys: readonly string[];
  readonly args: readonly string[];
}

export interface NameSpace {
  readonly prefix: string;
  readonly ttl: Milliseconds;
  /** Whether nobody can hold anything if there is no state. */
  readonly isNew: boolean;
}

/** What is known of the engine at the time of a call. */
export interface Circumstances {
  /** It did not know the script: it may have been restarted. */
  readonly isFresh: boolean;
  /** All subscribers are on the server that runs the script: what `PUBLISH` returns can be trusted. */
  readonly isTrusted: boolean;
  /** This member is subscribed to its channels. */
  readonly listens: boolean;
}

/** Larger ones are no limit to anybody, and a script could not write them down. */
const MOST_LIMIT = 1e12;

// ── Keys and channels ──

const stateKey = (prefix: string): string => `{${prefix}}`;
const memberKey = (prefix: string, member: string): string => `{${prefix}}:${escaped(member)}`;

/** Channels that a member has to hear: its own, and that of all. */
export function channelsOf(prefix: string, member: string): readonly [own: string, all: string] {
  return [`${memberKey(prefix, member)}:push`, `${stateKey(prefix)}:push`];
}

/** Scripts keep lists of names in lines. No name is empty. */
function escaped(name: string): string {
  return name.replace(/[%\n]/g, (character) => (character === "%" ? "%25" : "%0A")) || "%";
}

function unescaped(name: string): string {
  return name === "%" ? "" : name.replace(/%25|%0A/g, (code) => (code === "%25" ? "%" : "\n"));
}

// ── Calls ──

/** Arguments of `SYNC`. */
export function statementCall(statement: Statement, space: NameSpace, around: Circumstances): Call {
  const { member, label, sequence, epoch, full, beat, leave, holds, asks, members } = statement;
  const { isFresh, isTrusted, listens } = around;
  const flags = lettersOf({ f: full, b: beat, l: leave, n: space.isNew, r: isFresh, t: isTrusted, h: listens });
  const args = [escaped(member), label, `${sequence}`, epoch, flags, `${space.ttl}`, `${members}`, `${holds.size}`];
  for (const [key, held] of holds) args.push(escaped(key), `${held}`);
  for (const { id, count, slots } of asks) {
    args.push(`${id}`, `${count}`, `${slots.length}`);
    for (const { key, limit } of slots) args.push(escaped(key), `${Math.min(limit, MOST_LIMIT)}`);
  }
  return { keys: [stateKey(space.prefix), memberKey(space.prefix, member)], args };
}

/** Arguments of `REAP`. */
export function reapCall(member: string, { prefix, ttl }: NameSpace, around: Omit<Circumstances, "listens">): Call {
  const flags = lettersOf({ r: around.isFresh, t: around.isTrusted });
  return { keys: [stateKey(prefix), memberKey(prefix, member)], args: [escaped(member), `${ttl}`, flags] };
}

/** Arguments of `MEMBERS`, for the members that are known. */
export function membersCall(known: readonly string[], { prefix, ttl }: NameSpace): Call {
  return {
    keys: [stateKey(prefix), ...known.map((member) => memberKey(prefix, member))],
    args: [`${ttl}`, ...known.map(escaped)],
  };
}

function lettersOf(flags: Readonly<Record<string, boolean>>): string {
  return Object.keys(flags)
    .filter((letter) => flags[letter])
    .join("");
}

// ── Replies ──

/** @throws {TypeError} not what `SYNC` returns */
export function parseReply(raw: unknown): Reply {
  const reply = new Reader(raw);
  const status = reply.text();
  if (status === "stale") return { status };
  if (status === "unknown") return { status, epoch: reply.text() };
  if (status !== "ok") throw new TypeError(`The script of the cluster answered ${JSON.stringify(status)}`);
  const epoch = reply.text();
  const learning = reply.number();
  const version = reply.number();
  const more = reply.number() === 1;
  const standings = reply.list((): Standing => {
    return { key: reply.name(), held: reply.number(), total: reply.number(), contended: reply.number() === 1 };
  });
  const granted = reply.list(() => reply.number());
  const expired = reply.list(() => reply.name());
  const count = reply.number();
  const members = count === -1 ? undefined : reply.times(count, () => reply.name()).sort();
  return { status, epoch, learning, standings, granted, version, members, expired, more };
}

/** Whether the member has to be reaped once more. */
export function parseReap(raw: unknown): boolean {
  return Number(raw) === 1;
}

/** The members, or the ids of those that the call has to name. */
export function parseMembers(raw: unknown): { readonly members: MemberInfo[] } | { readonly again: string[] } {
  const reply = new Reader(raw);
  const isComplete = reply.text() === "ok";
  const members: MemberInfo[] = [];
  const again: string[] = [];
  while (reply.hasMore) {
    const id = reply.name();
    if (!isComplete) {
      again.push(id);
      continue;
    }
    const label = reply.text();
    const silentFor = reply.number();
    const holds = new Map(reply.list((): [string, number] => [reply.name(), reply.number()]));
    members.push({ id, label, silentFor, holds });
  }
  return isComplete ? { members: members.sort((a, b) => (a.id < b.id ? -1 : 1)) } : { again };
}

/** What a message says to `member`; undefined if it is not for it. */
export function parsePush(prefix: string, member: string, channel: string, text: string): Push | undefined {
  const [own, all] = channelsOf(prefix, member);
  if (channel === own) return { kind: "granted" };
  const [from, key] = text.split("\n");
  if (channel !== all || from === escaped(member) || key === undefined) return undefined;
  return { kind: "recall", key: unescaped(key) };
}

/** Reads a flat list one by one. Clients return text as strings or buffers, and numbers as either. */
class Reader {
  readonly #list: readonly unknown[];
  #at = 0;

  constructor(raw: unknown) {
    if (!Array.isArray(raw)) throw new TypeError("The script of the cluster answered no list");
    this.#list = raw;
  }

  get hasMore(): boolean {
    return this.#at < this.#list.length;
  }

  text(): string {
    if (!this.hasMore) throw new TypeError("The answer of the script of the cluster is too short");
    return String(this.#list[this.#at++]);
  }

  name(): string {
    return unescaped(this.text());
  }

  number(): number {
    const value = Number(this.text());
    if (Number.isNaN(value)) throw new TypeError("The script of the cluster answered no number where one belongs");
    return value;
  }

  list<T>(read: () => T): T[] {
    return this.times(this.number(), read);
  }

  times<T>(count: number, read: () => T): T[] {
    const values: T[] = [];
    for (let index = 0; index < count; index++) values.push(read());
    return values;
  }
}
