// A run: the traffic meets a limiter in virtual time, and what happens to whom is tallied.

import { Matcher } from "../core/match.js";
import { resolve, scopesOf } from "../core/resolve.js";
import { normalTarget } from "../core/target.js";
import { isLimiterError } from "../errors.js";
import { createLimiter } from "../limiter.js";
import { dataOf, type PolicyData } from "../policy/policy.js";
import type { Lease, LocalLimiter, Milliseconds, Policy, Target } from "../types.js";
import { Agenda } from "./agenda.js";
import { Account, Curve, Tally } from "./tally.js";
import { exponential, type Flow, type Random, type Traffic } from "./traffic.js";

export interface RunOptions {
  readonly seed: number;
  /** When the run ends, whatever is still under way; Infinity: when everything is over. */
  readonly end: Milliseconds;
  /** How long a request waits; Infinity: for ever. */
  readonly timeout: Milliseconds;
  readonly maxWaiting: number;
  /** Limits, by key, whose use over time is kept as a curve; only where `end` is finite. */
  readonly curves?: ReadonlySet<string>;
  /** Called every now and then. */
  readonly progress?: (now: Milliseconds, events: number) => void;
}

export interface Run {
  readonly span: Milliseconds;
  readonly events: number;
  /** Of the limits that applied to any request. */
  readonly tallies: readonly Tally[];
  readonly accounts: readonly Account[];
}

/** How many slices a curve has. */
const SLICES = 120;
/** Events between two breaths: the rest of the process has a turn. */
const BREATH = 10_000;

/**
 * Plays the traffic against a limiter of the policy.
 *
 * The seed decides the traffic alone: the same requests come at the same moments, each for the same time, whatever the
 * policy makes of them.
 */
export async function simulate(policy: Policy, traffic: Traffic, options: RunOptions): Promise<Run> {
  return new Simulation(policy, traffic, options).run();
}

interface Request {
  readonly account: Account;
  readonly since: Milliseconds;
  readonly hold: Milliseconds;
}

class Simulation {
  readonly #policy: PolicyData;
  readonly #matcher = new Matcher(16_384);
  readonly #flows: readonly Flow[];
  readonly #options: RunOptions;
  readonly #agenda = new Agenda();
  readonly #limiter: LocalLimiter;
  readonly #accounts = new Map<Target, Account>();
  readonly #tallies = new Map<string, Tally>();
  readonly #waiting = new Set<Request>();
  #failure: Error | undefined;

  constructor(policy: Policy, { flows }: Traffic, options: RunOptions) {
    this.#policy = dataOf(policy);
    this.#flows = flows;
    this.#options = options;
    this.#limiter = createLimiter(policy, { clock: this.#agenda, maxWaiting: options.maxWaiting });
  }

  async run(): Promise<Run> {
    const { end, progress } = this.#options;
    let events = 0;
    this.#startNext();
    await breath();
    while (this.#agenda.next(end)) {
      events++;
      if (this.#waiting.size > 0) await settled();
      if (this.#failure !== undefined) throw this.#failure;
      if (events % BREATH === 0) {
        progress?.(this.#agenda.now(), events);
        await breath();
      }
    }
    const span = this.#agenda.now();
    for (const { account, since } of this.#waiting) account.waits.add(span - since);
    for (const tally of this.#tallies.values()) tally.settle(span);
    return { span, events, tallies: [...this.#tallies.values()], accounts: [...this.#accounts.values()] };
  }

  /** A flow is looked at when it starts: a log has many, of one request each. */
  #startNext(index = 0): void {
    const flow = this.#flows[index];
    if (flow === undefined) return;
    this.#agenda.at(flow.start, () => {
      this.#startNext(index + 1);
      const random = seeded(Math.imul(this.#options.seed, 0x85ebca6b) + index);
      if (flow.gap === 0) this.#request(flow, random, flow.count);
      else this.#goOn(flow, random, flow.count);
    });
  }

  #request(flow: Flow, random: Random, left: number): void {
    this.#ask(flow.target, flow.hold(random));
    if (left > 1) this.#goOn(flow, random, left - 1);
  }

  #goOn(flow: Flow, random: Random, left: number): void {
    const at = this.#agenda.now() + (flow.gap === 0 ? 0 : exponential(flow.gap, random));
    if (at < flow.end) this.#agenda.at(at, () => this.#request(flow, random, left));
  }

  #ask(target: Target, hold: Milliseconds): void {
    const account = this.#accountOf(target);
    const request = { account, since: this.#agenda.now(), hold };
    account.asked++;
    const lease = this.#limiter.tryAcquire(target);
    if (lease === undefined) this.#wait(request);
    else this.#admit(request, lease);
  }

  #wait(request: Request): void {
    this.#waiting.add(request);
    this.#change(request.account, 0, 1);
    this.#limiter.acquire(request.account.target, { timeout: this.#options.timeout }).then(
      (lease) => {
        this.#leaveLine(request);
        this.#admit(request, lease);
      },
      (error: unknown) => {
        this.#leaveLine(request);
        this.#turnAway(request, error);
      },
    );
  }

  #leaveLine(request: Request): void {
    this.#waiting.delete(request);
    this.#change(request.account, 0, -1);
  }

  #admit({ account, since, hold }: Request, lease: Lease): void {
    account.admitted++;
    account.waits.add(this.#agenda.now() - since);
    this.#change(account, 1, 0);
    this.#agenda.after(hold, () => {
      this.#change(account, -1, 0);
      lease.release();
    });
  }

  #change({ tallies }: Account, connections: number, requests: number): void {
    const now = this.#agenda.now();
    for (const tally of tallies) tally.change(now, connections, requests);
  }

  #turnAway({ account, since }: Request, error: unknown): void {
    account.waits.add(this.#agenda.now() - since);
    if (isLimiterError(error) && error.code === "ERR_LIMITER_TIMEOUT") account.timedOut++;
    else if (isLimiterError(error) && error.code === "ERR_LIMITER_QUEUE_FULL") account.refused++;
    else this.#failure = error as Error;
  }

  #accountOf(target: Target): Account {
    const known = this.#accounts.get(target);
    if (known !== undefined) return known;
    const tallies: Tally[] = [];
    for (const { key, limit } of resolve(scopesOf(this.#policy, normalTarget(target, this.#policy), this.#matcher))) {
      if (limit === Number.POSITIVE_INFINITY) continue;
      const tally = this.#tallies.get(key) ?? new Tally(key, limit, target, this.#curve(key));
      this.#tallies.set(key, tally);
      tallies.push(tally);
    }
    const account = new Account(target, tallies);
    this.#accounts.set(target, account);
    return account;
  }

  #curve(key: string): Curve | undefined {
    return this.#options.curves?.has(key) ? new Curve(this.#options.end, SLICES) : undefined;
  }
}

/**
 * Resolves when every promise that can settle has: asked for in a microtask, a tick comes after the last of those. So a
 * hand-over that goes on in a microtask is over, too.
 */
const settled = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve));
const breath = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** mulberry32: Math.random() cannot be seeded. */
function seeded(seed: number): Random {
  let state = Math.imul(seed, 0x9e3779b1);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
