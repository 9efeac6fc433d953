// Under which name a process speaks to the engine of its cluster, and how it takes its leave.

import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import debug from "debug";
import type { Engine, Push, Statement } from "./engine.js";

const log = debug("outbound-limiter:cluster");
const LABEL = `${hostname()}:${process.pid}`;

export class Speaker {
  readonly #engine: Engine;
  readonly #hear: (push: Push) => void;
  #id = freshId();
  /** Names it had before, of which the engine may still count slots. */
  #former: string[] = [];
  #hearing: Disposable;
  #sequence = 0;
  /** Of the last reply; "" before the first. */
  epoch = "";
  /** Of the list of members that it knows; 0 for none. */
  version = 0;

  constructor(engine: Engine, hear: (push: Push) => void) {
    this.#engine = engine;
    this.#hear = hear;
    this.#hearing = this.#listen();
  }

  /** Its name in the cluster. */
  get id(): string {
    return this.#id;
  }

  /** What every statement begins with; one more each time. */
  next(): Pick<Statement, "member" | "label" | "sequence" | "epoch" | "members"> {
    const { epoch, version } = this;
    return { member: this.#id, label: LABEL, sequence: ++this.#sequence, epoch, members: version };
  }

  /**
   * Another member from now on. What the engine has of the one before stays counted while this one says in parts what the
   * process holds: at no time is a slot that is used free for others.
   */
  rename(): void {
    log("%s holds too much to say it at once, and goes on under another name", this.#id);
    this.#hearing[Symbol.dispose]();
    this.#former.push(this.#id);
    this.#id = freshId();
    this.#hearing = this.#listen();
  }

  /** The engine knows what the process holds under its name: what it held under others goes back. */
  dropFormer(): void {
    for (const id of this.#former.splice(0)) void this.#sayFarewell(id);
  }

  /** Hears nothing any more. */
  fallSilent(): void {
    this.#hearing[Symbol.dispose]();
  }

  /** All that it holds goes back. Never rejects: if the engine cannot be told, it will notice. */
  leave(): Promise<void> {
    return this.#sayFarewell(this.#id);
  }

  async #sayFarewell(member: string): Promise<void> {
    try {
      const nothing = { full: false, beat: false, leave: true, holds: new Map<string, number>(), asks: [] };
      const reply = await this.#engine.state({ ...this.next(), ...nothing, member });
      // So much that it goes back in parts.
      if (reply.status === "ok" && reply.expired.includes(member)) await this.#engine.reap(member);
    } catch (error) {
      log("%s could not say that it leaves: %o", member, error);
    }
  }

  #listen(): Disposable {
    return this.#engine.listen(this.#id, this.#hear);
  }
}

function freshId(): string {
  return randomBytes(6).toString("base64url");
}
