// One limiter as a member of a cluster: states what it holds and asks, one statement at a time, and knows until when that
// is good.

import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { performance } from "node:perf_hooks";
import debug from "debug";
import type { Counters } from "../core/counters.js";
import type { Counter, Plan, Waiter } from "../core/plan.js";
import { ClusterError } from "../errors.js";
import type { Cluster, Milliseconds } from "../types.js";
import { Books, type Saying } from "./books.js";
import { clusterParts, type WhenDown } from "./cluster.js";
import type { Engine, Push, Reply, Statement } from "./engine.js";
import { shareOf } from "./share.js";
import { Timer } from "./timer.js";
import { Watchdog } from "./watchdog.js";

const log = debug("outbound-limiter:cluster");

/** A lease that holds slots of the cluster. */
interface RemoteLease {
  readonly plan: Plan;
  lose(why: string): void;
}

/** The limiter. Its counts are settled when the member calls; it may run callers' code. */
export interface Home<Request extends Waiter, Lease extends RemoteLease> {
  /** In force now; another policy brings others. */
  readonly counters: Counters<Request>;
  /** Oldest first. */
  leases(): Iterable<Lease>;
  admit(admitted: readonly Request[]): void;
  /** Ends the wait of requests: the engine cannot be asked for their slots. */
  refuse(requests: readonly Request[], cause: unknown): void;
  /** Those that were to wait for one answer only have had it. */
  answered(requests: readonly Request[]): void;
  tell(state: "up" | "down" | "recovering", error?: unknown): void;
}

/** Shares of the ttl: signs of life; how long a statement is good for; when the process is ended if it is blocked. */
const HEARTBEAT = 1 / 5;
const VALIDITY = 0.7;
const LAST_MOMENT = 0.85;
/** Slots that nobody needed for so long go back. */
const IDLE: Milliseconds = 1_000;

export class Member<Request extends Waiter, Lease extends RemoteLease> {
  readonly id: string = randomBytes(6).toString("base64url");
  readonly #engine: Engine;
  readonly #home: Home<Request, Lease>;
  readonly #whenDown: WhenDown;
  /** Members of an engine without a ttl give back what they do not use at once: asking costs nothing there. */
  readonly #isExact: boolean;
  readonly #hearing: Disposable;
  readonly #watchdog: Watchdog | undefined;
  readonly #books: Books<Request>;
  #probes: Request[] = [];
  #state: "new" | "up" | "recovering" | "down" = "new";
  #error: unknown;
  #sequence = 0;
  #epoch = "";
  /** The engine has something for this member that it only tells in an answer. */
  #isMore = false;
  #wantsBeat = false;
  /** Answers in a row that were none. */
  #confused = 0;
  #members: readonly string[];
  #version = 0;
  /** On the clock of `performance`: until when what is held may be used. */
  #validUntil = Number.POSITIVE_INFINITY;
  #lastSent = performance.now();
  #grantsFrom = 0;
  #isUnderWay = false;
  #isScheduled = false;
  #hasLeft = false;
  #leases = 0;
  readonly #beat = new Timer(() => this.#giveSign());
  readonly #again = new Timer(() => this.#giveSign());
  readonly #end = new Timer(() => this.check());
  readonly #growth = new Timer(() => this.#alone(this.#home.counters.remotes()));
  readonly #idle = new Timer(() => this.#giveIdleBack());

  constructor(cluster: Cluster, home: Home<Request, Lease>) {
    const { engine, whenDown, watchdog } = clusterParts(cluster);
    this.#engine = engine;
    this.#home = home;
    this.#whenDown = whenDown;
    this.#isExact = engine.ttl === Number.POSITIVE_INFINITY;
    this.#members = [this.id];
    this.#books = new Books(() => home.counters, this.#isExact);
    this.#hearing = engine.listen(this.id, (push) => this.#hear(push));
    this.#watchdog = watchdog && !this.#isExact ? new Watchdog() : undefined;
    this.nudge();
  }

  /** Whether slots that are held may still be used: judged in the tick they are. */
  check(): void {
    if (performance.now() >= this.#validUntil) this.#fence();
  }

  /** So many leases of this process, more or less, hold slots of the cluster. */
  leased(change: 1 | -1): void {
    this.#leases += change;
    this.#watchdog?.held(this.#leases);
    if (change < 0 && !this.#isExact) this.#idle.within(IDLE);
  }

  /** The line or the counts have changed; if that concerns the engine, it is told at the end of this turn. */
  nudge(): void {
    if (this.#isScheduled || this.#hasLeft) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      if (this.#state === "down") this.#alone(this.#home.counters.line.pressed);
      else this.#flush();
    });
  }

  /** A request that waits for one answer of the engine, and no longer. */
  probe(request: Request): void {
    this.#probes.push(request);
    this.nudge();
  }

  /** Another policy is in force, with other counters. */
  moved(from: Counters<Request>, to: Counters<Request>): void {
    this.#books.moved(from, to);
    // How the new limits stand, the engine has to tell.
    this.#wantsBeat = true;
    this.#leases = 0;
    for (const { plan } of this.#home.leases()) if (plan.remote) this.leased(1);
    this.nudge();
  }

  /** Goes for good. Never rejects: if the engine cannot be told, it will notice. */
  async leave(): Promise<void> {
    if (this.#hasLeft) return;
    this.#hasLeft = true;
    for (const timer of [this.#beat, this.#again, this.#end, this.#growth, this.#idle]) timer.clear();
    this.#watchdog?.[Symbol.dispose]();
    this.#hearing[Symbol.dispose]();
    if (this.#state === "down") return;
    try {
      const nothing = { full: false, holds: new Map<string, number>(), asks: [] };
      const reply = await this.#engine.state(this.#statement(nothing, { beat: false, leave: true }));
      // So much that it goes back in parts.
      if (reply.status === "ok" && reply.expired.includes(this.id)) await this.#engine.reap(this.id);
    } catch (error) {
      log("%s could not say that it leaves: %o", this.id, error);
    }
  }

  #hear(push: Push): void {
    if (this.#hasLeft) return;
    if (push.kind === "missed") {
      this.#giveSign();
      return;
    }
    if (push.kind === "granted") {
      this.#isMore = true;
      this.#flush();
      return;
    }
    const { counters } = this.#home;
    const counter = counters.get(push.key);
    if (counter === undefined || !counter.remote) return;
    counter.contended = true;
    counter.awaited = true;
    if (counter.open > counter.inUse) counters.hold(counter, counter.inUse);
    if (counter.idle > 0) counters.line.idle.add(counter);
    // Idle connections are asked to end, and the engine is told what was given up.
    this.#home.admit([]);
  }

  /** Whether it lets in what its own limits allow, as the engine does not answer. */
  get #isAdmitting(): boolean {
    return this.#state === "down" && this.#whenDown === "admit";
  }

  #giveSign(): void {
    this.#wantsBeat = true;
    this.#flush();
  }

  /** Makes a statement if there is something to state. While one is under way the next has to wait. */
  #flush(): void {
    if (this.#isUnderWay || this.#hasLeft) return;
    const beat = this.#wantsBeat;
    const said = this.#books.next({
      isAlone: this.#isAdmitting,
      canAsk: performance.now() >= this.#grantsFrom,
      allAsks: beat || this.#probes.length > 0,
      beat,
    });
    // Nothing is asked as long as not all is said.
    const probes = this.#books.isPartial ? [] : this.#probes.splice(0);
    if (!said.full && !beat && !this.#isMore && said.holds.size === 0 && said.asks.length === 0) {
      this.#home.answered(probes);
      return;
    }
    const statement = this.#statement(said, { beat: said.full || beat, leave: false });
    this.#isMore = false;
    // What was told of a part was not believed.
    this.#wantsBeat = this.#books.isPartial;
    this.#isUnderWay = true;
    const wasAlone = this.#isAdmitting;
    const sent = performance.now();
    this.#engine.state(statement).then(
      (reply) => this.#answer(() => this.#heard(statement, reply, sent, wasAlone, probes)),
      (error: unknown) => this.#answer(() => this.#failed(statement, error, probes)),
    );
  }

  #answer(work: () => void): void {
    this.#isUnderWay = false;
    if (!this.#hasLeft) work();
  }

  #statement(said: Saying, kind: Pick<Statement, "beat" | "leave">): Statement {
    return {
      member: this.id,
      label: `${hostname()}:${process.pid}`,
      sequence: ++this.#sequence,
      epoch: this.#epoch,
      members: this.#version,
      ...said,
      ...kind,
    };
  }

  #failed(statement: Statement, error: unknown, probes: readonly Request[]): void {
    log("%s: the engine does not answer: %o", this.id, error);
    this.#books.unheard(statement);
    this.#becomeDown(error);
    this.#home.answered([...probes, ...this.#probes.splice(0)]);
    this.#again.in(Math.min(500, this.#engine.ttl / 30));
  }

  #becomeDown(error: unknown): void {
    this.#error = error;
    const wasDown = this.#state === "down";
    this.#state = "down";
    if (!wasDown) this.#home.tell("down", error);
    this.#alone(this.#home.counters.remotes());
  }

  /** What a process does without the engine, for some counters. */
  #alone(remotes: Iterable<Counter>): void {
    if (this.#state !== "down") return;
    const { counters } = this.#home;
    if (this.#whenDown === "refuse") {
      this.#refuse();
      return;
    }
    const now = performance.now();
    if (this.#whenDown === "share" && now < this.#lastSent + this.#engine.ttl) {
      // Not before everybody has shrunk to his own share.
      this.#growth.at(this.#lastSent + this.#engine.ttl);
      return;
    }
    const freed: Counter[] = [];
    for (const counter of [...remotes]) {
      counter.contended = false;
      const allowed = this.#whenDown === "admit" ? counter.limit : this.#share(counter);
      if (counter.open < allowed) freed.push(counter);
      counters.hold(counter, allowed);
    }
    const admitted = counters.freed(freed);
    if (admitted.length > 0) this.#home.admit(admitted);
  }

  #refuse(): void {
    const { line } = this.#home.counters;
    const requests: Request[] = [];
    for (const { waiting } of line.pressed) {
      for (const plan of waiting?.parked ?? []) requests.push(...([...plan.queue] as Request[]));
    }
    line.pressed.clear();
    if (requests.length === 0) return;
    this.#home.refuse(requests, this.#error);
  }

  #share(counter: Counter): number {
    // Nobody was ever heard of: there may be many.
    if (this.#version === 0) return Math.min(1, counter.limit);
    return shareOf(counter.limit, counter.key, this.id, this.#members);
  }

  /** The slots may be given to others from now on: whatever uses them has to end. */
  #fence(): void {
    const late = performance.now() - this.#validUntil;
    this.#validUntil = Number.POSITIVE_INFINITY;
    // The loop is not blocked: what has to end is ended here.
    this.#watchdog?.allow(Number.POSITIVE_INFINITY);
    if (this.#whenDown === "admit") return;
    // Later than a timer is: this process stood still, the engine may not, and others may have everything.
    const keepsShare = this.#whenDown === "share" && late < this.#engine.ttl * HEARTBEAT;
    const { counters } = this.#home;
    const left = new Map<Counter, number>();
    const lost: Lease[] = [];
    for (const counter of counters.remotes()) {
      counter.contended = !keepsShare;
      const share = keepsShare ? Math.min(this.#share(counter), counter.open) : 0;
      left.set(counter, share);
      counters.hold(counter, share);
    }
    for (const lease of this.#home.leases()) {
      if (!lease.plan.remote) continue;
      const remotes = lease.plan.counters.filter(({ remote }) => remote);
      if (remotes.every((counter) => (left.get(counter) ?? 0) > 0)) {
        for (const counter of remotes) left.set(counter, (left.get(counter) ?? 0) - 1);
      } else {
        lost.push(lease);
      }
    }
    this.#becomeDown(this.#error ?? new ClusterError("The engine of the cluster was not heard of for too long"));
    this.#again.in(0);
    // Callers' code runs, with the counts settled.
    for (const lease of lost) lease.lose("its process could not tell the cluster in time that it still uses it");
  }

  #heard(statement: Statement, reply: Reply, sent: Milliseconds, wasAlone: boolean, probes: readonly Request[]): void {
    const isLate = !this.#isExact && performance.now() >= sent + this.#engine.ttl * VALIDITY;
    if (reply.status !== "ok" || isLate) {
      if (reply.status === "unknown") this.#books.unknown();
      else this.#books.unheard(statement);
      this.#wantsBeat = true;
      if (++this.#confused > 3) {
        this.#failed(statement, new ClusterError("The engine of the cluster does not understand this process"), probes);
        return;
      }
      this.#probes.push(...probes);
      if (reply.status !== "stale") this.#epoch = reply.epoch;
      this.#flush();
      return;
    }
    this.#confused = 0;
    if (!this.#books.isPartial) this.#isValidFrom(sent);
    this.#epoch = reply.epoch;
    this.#isMore ||= reply.more;
    this.#version = reply.version;
    this.#members = reply.members ?? this.#members;
    const before = this.#state;
    this.#learn(reply.learning);
    const freed = this.#books.settle(statement, reply, wasAlone);
    this.#home.admit(this.#home.counters.freed(freed));
    this.#books.giveBack(reply);
    this.#home.answered(probes);
    if (before !== this.#state) this.#home.tell(this.#state as "up" | "recovering");
    for (const expired of reply.expired) this.#engine.reap(expired).catch((error: unknown) => log("reap: %o", error));
    if (!this.#isExact) this.#idle.within(IDLE);
    this.nudge();
  }

  #isValidFrom(sent: Milliseconds): void {
    if (this.#isExact) return;
    const { ttl } = this.#engine;
    this.#lastSent = sent;
    this.#validUntil = sent + ttl * VALIDITY;
    this.#end.at(this.#validUntil);
    this.#watchdog?.allow(sent + ttl * LAST_MOMENT - performance.now());
    this.#beat.within(ttl * HEARTBEAT);
    this.#growth.clear();
  }

  #learn(learning: Milliseconds): void {
    this.#state = learning > 0 ? "recovering" : "up";
    this.#error = undefined;
    this.#grantsFrom = learning > 0 ? performance.now() + learning : 0;
    if (learning === 0) return;
    // The engine takes no asks while it learns.
    this.#books.forgetAsks();
    this.#again.in(learning);
  }

  #giveIdleBack(): void {
    const isSpare = this.#state !== "down" && this.#books.giveIdleBack();
    if (isSpare) this.#idle.within(IDLE);
    this.nudge();
  }
}
