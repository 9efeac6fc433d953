// What a process and the engine of a cluster say to each other. Whoever keeps the counts implements `Engine`.

import type { Milliseconds } from "../types.js";

/** A slot of one counter, under the limit that the policy of the asking process gives it. */
export interface Slot {
  readonly key: string;
  readonly limit: number;
}

/** A set of slots that are needed together, `count` times. All slots of a set are granted at once, or none. */
export interface Ask {
  /** Chosen by the process, never used again for another set. */
  readonly id: number;
  /** Absolute: how many are wanted from now on. 0 withdraws the ask. */
  readonly count: number;
  readonly slots: readonly Slot[];
}

/**
 * What one process (a member) states. Numbers are absolute, so saying something twice or late changes nothing; what is
 * not mentioned stays as it is, unless the statement is `full`.
 */
export interface Statement {
  readonly member: string;
  /** Where the process runs, for people: host and process id. */
  readonly label: string;
  /** One more each time. A statement that is not newer than the last one is stale, and not applied. */
  readonly sequence: number;
  /** Of the last reply; "" before the first. */
  readonly epoch: string;
  /** What is not mentioned is given back, or withdrawn. For an engine that has nothing of this member. */
  readonly full: boolean;
  /**
   * A sign of life: the reply tells of every counter that the member holds or asks, mentioned or not. Of those that it
   * holds only if they are no more than `MOST_TOLD`: who holds more mentions them, some in each of several statements.
   */
  readonly beat: boolean;
  /** The member goes for good: all it holds is given back, and it is forgotten. */
  readonly leave: boolean;
  /** Slots held from now on. More than was granted is believed, and counted. */
  readonly holds: ReadonlyMap<string, number>;
  readonly asks: readonly Ask[];
  /** Version of the list of members it knows; 0 for none. */
  readonly members: number;
}

/** How one counter stands, once the statement was applied. */
export interface Standing {
  readonly key: string;
  /** Slots that this member holds. */
  readonly held: number;
  /** Slots that all members hold. */
  readonly total: number;
  /** Whether another member waits for it: then a slot that comes free goes back to the engine. */
  readonly contended: boolean;
}

export type Reply =
  /** An older or repeated statement. Nothing was applied. */
  | { readonly status: "stale" }
  /** The engine does not know this member, or lost what it knew: it has to make a full statement. */
  | { readonly status: "unknown"; readonly epoch: string }
  | {
      readonly status: "ok";
      readonly epoch: string;
      /** Until then nothing is granted, as holdings of others may not have been restated yet. 0: not learning. */
      readonly learning: Milliseconds;
      /** The counters that were mentioned, granted, or, at a beat, held or asked. */
      readonly standings: readonly Standing[];
      /** Asks granted since the last reply; an id as often as its set was. Their slots are in the standings. */
      readonly granted: readonly number[];
      /** Version of the list of members. */
      readonly version: number;
      /** The members by id, sorted; left out where the process has this version. */
      readonly members: readonly string[] | undefined;
      /** Members without a sign of life for too long: somebody has to `reap` them. */
      readonly expired: readonly string[];
      /** A hand-over was cut short: another statement goes on with it. */
      readonly more: boolean;
    };

/** What the engine tells a member unasked. It may be lost; then the next beat tells. */
export type Push =
  /** Something was granted: make a statement to learn what. */
  | { readonly kind: "granted" }
  /** Others may have been lost until now: make a beat to learn of them. */
  | { readonly kind: "missed" }
  /** Somebody else waits for this counter. */
  | { readonly kind: "recall"; readonly key: string };

/** A member as others see it. */
export interface MemberInfo {
  readonly id: string;
  readonly label: string;
  /** Since its last statement. */
  readonly silentFor: Milliseconds;
  readonly holds: ReadonlyMap<string, number>;
}

/** Most counters held that a beat alone tells of. */
export const MOST_TOLD = 4_000;

/** Keeps the counts of all members. */
export interface Engine {
  /** How long a member may be silent before its slots go to others. Infinity: for ever. */
  readonly ttl: Milliseconds;
  /**
   * @throws when it cannot be reached, or does not answer in time; whether the statement was applied is then unknown
   */
  state(statement: Statement): Promise<Reply>;
  /** Gives back what a silent member held, unless it made itself heard meanwhile. */
  reap(member: string): Promise<void>;
  members(): Promise<readonly MemberInfo[]>;
  /** Begins to tell a member unasked, as soon and as long as that is possible. Disposing of it ends that. */
  listen(member: string, hear: (push: Push) => void): Disposable;
}
