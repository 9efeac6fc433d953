// Mistakes that a waiting line invites. Each test is named after one, and fails when what guards against it is taken out.
import { describe, expect, it } from "vitest";
import { Counters } from "../../src/core/counters.js";
import { Matcher } from "../../src/core/match.js";
import { Plans } from "../../src/core/plans.js";
import { type Clock, createLimiter, type Lease, type LocalLimiter, parsePolicy, type Target } from "../../src/index.js";
import { dataOf } from "../../src/policy/policy.js";
import { VirtualClock } from "../model/clock.js";
import { NOTHING, type Opened, open, turn, type Watched, watch } from "./open.js";

const ONE = "max_outbound_connections = 1";
const gmail: Target = { binding: "mta-1", domain: "gmail.com" };
const small: Target = { binding: "mta-1", domain: "small.example" };

/** The lease of a target that has room. */
function take(limiter: LocalLimiter, target: Target): Lease {
  const lease = limiter.tryAcquire(target);
  if (lease === undefined) throw new Error("There was no room");
  return lease;
}

/** Nobody holds more than is allowed, and no slot is lost: all may be given back, and then there is nothing. */
function expectWhole(limiter: LocalLimiter, held: readonly (Lease | undefined)[]): void {
  const over = limiter.snapshot().counters.filter(({ inUse, limit }) => inUse > limit);
  expect(over).toEqual([]);
  expect(limiter.snapshot().leases).toBe(held.filter((lease) => lease !== undefined).length);
  for (const lease of held) {
    const counted = lease === undefined ? [] : limiter.explain(lease.target).limits;
    expect(counted.filter(({ inUse }) => inUse === 0)).toEqual([]);
  }
  for (const lease of held) lease?.release();
  expect(limiter.snapshot()).toMatchObject(NOTHING);
}

describe("stopping after one admission per release", () => {
  const text = `
    binding "mta-1" { server_max_outbound_connections = 1 }
    domain "gmail.com" { scope_max_outbound_connections = 1 }`;

  it("leaves the others idle whom another counter of the same lease has room for", async () => {
    const { limiter } = open(text);
    const lease = take(limiter, gmail);
    const sameBinding = watch(limiter.acquire(small));
    const sameDomain = watch(limiter.acquire({ binding: "mta-2", domain: "gmail.com" }));
    lease.release();
    expect(limiter.snapshot()).toMatchObject({ leases: 2, waiting: 0 });
    await turn();
    expect([sameBinding.state, sameDomain.state]).toEqual(["resolved", "resolved"]);
  });

  it("leaves those idle who stand behind one that another counter holds up", async () => {
    const { limiter } = open(text);
    const lease = take(limiter, small);
    take(limiter, { binding: "mta-2", domain: "gmail.com" });
    const heldUp = watch(limiter.acquire(gmail));
    // The first of the binding's line is whoever came first: it is held up by the domain as well.
    const behind = watch(limiter.acquire({ binding: "mta-1", domain: "third.example" }));
    lease.release();
    expect(limiter.snapshot()).toMatchObject({ leases: 2, waiting: 1 });
    await turn();
    expect([heldUp.state, behind.state]).toEqual(["pending", "resolved"]);
  });
});

describe("a hand-over that is cut", () => {
  const WAITING = 300;
  /** Many wait for a binding and for a domain of their own; behind them one who needs the binding alone. */
  async function longLine(): Promise<Opened & { readonly first: Lease; readonly last: Watched<Lease> }> {
    const names = Array.from({ length: WAITING }, (_, i) => `name-${String(i)}.example`);
    const opened = open(`
      server_max_outbound_connections = -1
      binding "b" { server_max_outbound_connections = 1 }
      ${names.map((name) => `domain "${name}" { scope_max_outbound_connections = 1 }`).join("\n")}`);
    const first = take(opened.limiter, { binding: "b", domain: "first.example" });
    for (const domain of names) {
      take(opened.limiter, { binding: "other", domain });
      // So that all of them stand in the line of the binding: that of the domain has room when they come.
      await turn();
    }
    for (const domain of names) watch(opened.limiter.acquire({ binding: "b", domain }));
    return { ...opened, first, last: watch(opened.limiter.acquire({ binding: "b", domain: "last.example" })) };
  }

  it("without a mark is overtaken by whoever comes next", async () => {
    const { limiter, first, last } = await longLine();
    first.release();
    expect(limiter.explain({ binding: "b", domain: "new.example" }).verdict).toBe("wait");
    expect(limiter.tryAcquire({ binding: "b", domain: "new.example" })).toBeUndefined();
    const late = watch(limiter.acquire({ binding: "b", domain: "late.example" }));
    await turn();
    expect([last.state, late.state]).toEqual(["resolved", "pending"]);
  });

  it("without a scheduled rest leaves a slot idle, though nobody calls any more", async () => {
    const { limiter, first, last } = await longLine();
    first.release();
    await turn();
    expect(last.state).toBe("resolved");
    expect(limiter.snapshot()).toMatchObject({ leases: WAITING + 1, waiting: WAITING });
  });

  it("does not go on once everybody has left", async () => {
    const { limiter, first, last } = await longLine();
    first.release();
    await limiter.close({ timeout: 0 });
    await turn();
    expect(last.error).toMatchObject({ code: "ERR_LIMITER_CLOSED" });
    expect(limiter.snapshot()).toMatchObject({ leases: WAITING, waiting: 0 });
  });

  it("is over when the policy changes: the new table knows nothing of it", async () => {
    const { limiter, first, last } = await longLine();
    first.release();
    limiter.update(parsePolicy('binding "b" { server_max_outbound_connections = 0 }'));
    await turn();
    expect(last.state).toBe("pending");
    expect(limiter.snapshot()).toMatchObject({ leases: WAITING, waiting: WAITING + 1 });
    limiter.update(parsePolicy(ONE));
    await turn();
    expect(last.state).toBe("resolved");
  });
});

describe("a second plan for one target, or a second counter for one key, after an eviction", () => {
  const SCOPE = 'domain "/^(gmail|googlemail)\\.com$/" { scope_max_outbound_connections = 1 }';

  /** So many other names that whatever may be forgotten is. */
  function forgetAll(limiter: LocalLimiter): void {
    for (let i = 0; i < 100; i++) limiter.explain({ domain: `other-${String(i)}.example` });
  }

  it("lets a target past the limit that its own lease fills", () => {
    const { limiter } = open(ONE, { matchCacheSize: 1 });
    const lease = take(limiter, gmail);
    forgetAll(limiter);
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
    lease.release();
    expect(limiter.tryAcquire(gmail)).toBeDefined();
  });

  it("gives a target a second queue beside the one that waits", async () => {
    const { limiter } = open(SCOPE, { matchCacheSize: 1 });
    const order: string[] = [];
    const wait = (name: string): void =>
      void limiter.acquire(gmail).then((lease) => {
        order.push(name);
        lease.release();
      });
    const lease = take(limiter, { binding: "mta-2", domain: "gmail.com" });
    wait("first");
    wait("second");
    forgetAll(limiter);
    wait("third");
    lease.release();
    for (let i = 0; i < 4; i++) await turn();
    expect(order).toEqual(["first", "second", "third"]);
  });

  it("counts anew what others, that were not forgotten, still hold", () => {
    const { limiter } = open(SCOPE, { matchCacheSize: 1 });
    take(limiter, { binding: "mta-2", domain: "gmail.com" });
    expect(limiter.tryAcquire({ binding: "mta-3", domain: "googlemail.com" })).toBeUndefined();
    forgetAll(limiter);
    expect(limiter.tryAcquire({ binding: "mta-3", domain: "googlemail.com" })).toBeUndefined();
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
  });

  it("counts each plan apart that points to one key", () => {
    const { limiter } = open(SCOPE);
    take(limiter, gmail);
    expect(limiter.tryAcquire({ binding: "mta-2", domain: "googlemail.com" })).toBeUndefined();
  });

  it("or no eviction at all, and every name ever seen keeps its counter", () => {
    const counters = new Counters();
    const policy = dataOf(parsePolicy(ONE));
    const plans = new Plans(policy, counters, new Matcher(4), 4);
    const keys = Array.from({ length: 100 }, (_, i) => plans.of({ domain: `name-${String(i)}.example` }).pair.key);
    expect(keys.filter((key) => counters.get(key) !== undefined).length).toBeLessThanOrEqual(4);
    expect(counters.get(keys.at(-1) ?? "")).toBeDefined();
  });
});

describe("releasing through a fresh look-up instead of what was taken", () => {
  it("throws where the target contradicts the policy by then", () => {
    const { limiter } = open("");
    const lease = take(limiter, { ...gmail, bindingGroup: "a" });
    limiter.update(parsePolicy('binding_group "b" { binding "mta-1" { server_max_outbound_connections = 1 } }'));
    expect(() => limiter.explain(lease.target)).toThrow(TypeError);
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
    lease.release();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
    expect(limiter.tryAcquire(gmail)).toBeDefined();
  });

  it("frees another counter where the target was changed meanwhile", () => {
    const { limiter } = open(ONE);
    const target = { binding: "mta-1", domain: "gmail.com" };
    const lease = take(limiter, target);
    const other = take(limiter, small);
    target.domain = "small.example";
    lease.release();
    expect(limiter.tryAcquire(small)).toBeUndefined();
    expect(limiter.tryAcquire(gmail)).toBeDefined();
    other.release();
  });

  it("frees the wrong counters where the policy has changed", () => {
    const { limiter } = open("server_max_outbound_connections = 1\nserver_reserve_outbound_connections = 0");
    const lease = take(limiter, gmail);
    limiter.update(parsePolicy("scope_max_outbound_connections = 1\nserver_reserve_outbound_connections = 0"));
    expect(limiter.tryAcquire(small)).toBeUndefined();
    lease.release();
    take(limiter, small).release();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("takes a lease of the reserve for an ordinary one, or the other way round", () => {
    const { limiter } = open("server_max_outbound_connections = 1\nserver_reserve_outbound_connections = 1");
    const ordinary = take(limiter, gmail);
    const reserved = take(limiter, small);
    ordinary.release();
    expect(limiter.snapshot().reserve.inUse).toBe(1);
    const next = take(limiter, { domain: "third.example" });
    expect(limiter.snapshot().reserve.inUse).toBe(2);
    reserved.release();
    expect(limiter.snapshot().reserve.inUse).toBe(1);
    next.release();
    expect(limiter.snapshot()).toMatchObject({ ...NOTHING, reserve: { inUse: 0 } });
  });
});

describe("callers' code that runs inside a hand-over", () => {
  const text = `
    binding "mta-1" { server_max_outbound_connections = 1 }
    domain "gmail.com" { scope_max_outbound_connections = 1 }`;

  /** What somebody may think of, in the middle of it all. */
  const deeds: readonly (readonly [string, (limiter: LocalLimiter) => void])[] = [
    ["asks for what was just handed over", (limiter) => limiter.tryAcquire(gmail)?.release()],
    ["looks", (limiter) => void JSON.stringify([limiter.snapshot(), [...limiter.leases()], limiter.explain(gmail)])],
    ["changes the policy", (limiter) => limiter.update(parsePolicy(text))],
    ["closes", (limiter) => void limiter.close()],
  ];

  interface Started {
    readonly limiter: LocalLimiter;
    /** The next of the calls that are told of does the deed; returns how many have. */
    readonly arm: () => () => number;
  }
  type Start = (deed: (limiter: LocalLimiter) => void) => Started;

  /** A limiter, and what calls the deed once when armed. */
  function started(deed: (limiter: LocalLimiter) => void, make: (call: () => void) => LocalLimiter): Started {
    let armed = false;
    let done = 0;
    const limiter = make(() => {
      if (!armed) return;
      armed = false;
      done++;
      deed(limiter);
    });
    const arm = (): (() => number) => {
      armed = true;
      return () => done;
    };
    return { limiter, arm };
  }

  /** A clock that calls when a timer is taken back. */
  function calling(call: () => void): Clock {
    const clock = new VirtualClock();
    return {
      now: () => clock.now(),
      after(delay, run) {
        const timer = clock.after(delay, run);
        return {
          [Symbol.dispose]() {
            timer[Symbol.dispose]();
            call();
          },
        };
      },
    };
  }

  const places: readonly (readonly [string, Start])[] = [
    [
      "an observer told of what is granted",
      (deed) =>
        started(deed, (call) =>
          createLimiter(parsePolicy(text), { clock: new VirtualClock(), observer: { granted: call } }),
        ),
    ],
    [
      "an observer told of what is released",
      (deed) =>
        started(deed, (call) =>
          createLimiter(parsePolicy(text), { clock: new VirtualClock(), observer: { released: call } }),
        ),
    ],
    [
      "a clock whose timer is taken back",
      (deed) => started(deed, (call) => createLimiter(parsePolicy(text), { clock: calling(call) })),
    ],
  ];
  const cases = places.flatMap(([place, start]) => deeds.map(([what, deed]) => ({ place, what, start, deed })));

  it.each(cases)("$place $what, and no slot is lost or given twice", async ({ start, deed }) => {
    const { limiter, arm } = start(deed);
    const first = take(limiter, gmail);
    // Both are handed a slot by one release; a timeout each, so that a timer is armed.
    const waiting = [
      watch(limiter.acquire(small, { timeout: 1000 })),
      watch(limiter.acquire({ binding: "mta-2", domain: "gmail.com" }, { timeout: 1000 })),
    ];
    const done = arm();
    first.release();
    expect(done()).toBe(1);
    await turn();
    expect(waiting.map(({ settled }) => settled)).toEqual([1, 1]);
    expectWhole(
      limiter,
      waiting.map(({ value }) => value),
    );
  });

  it.each(cases)("$place $what while a request leaves, and nothing is lost or given twice", async ({ start, deed }) => {
    const { limiter, arm } = start((limiter) => {
      deed(limiter);
      first.release();
    });
    const first = take(limiter, gmail);
    const controller = new AbortController();
    const leaving = watch(limiter.acquire(small, { timeout: 1000, signal: controller.signal }));
    const staying = watch(limiter.acquire({ binding: "mta-1", domain: "third.example" }));
    arm();
    controller.abort("changed my mind");
    await turn();
    first.release();
    await turn();
    expect([leaving.settled, staying.settled]).toEqual([1, 1]);
    expectWhole(limiter, [leaving.value, staying.value]);
  });

  it("a signal that is taken off gives a slot back, and it goes to nobody who has left", async () => {
    const { limiter } = open(ONE);
    const first = take(limiter, gmail);
    const controller = new AbortController();
    const { signal } = controller;
    const remove = signal.removeEventListener.bind(signal);
    signal.removeEventListener = (...given: Parameters<typeof remove>) => {
      remove(...given);
      first.release();
    };
    const leaving = watch(limiter.acquire(gmail, { signal }));
    const staying = watch(limiter.acquire(gmail));
    controller.abort("changed my mind");
    await turn();
    expect(leaving).toMatchObject({ state: "rejected", error: "changed my mind" });
    expect(staying.state).toBe("resolved");
    expectWhole(limiter, [staying.value]);
  });

  it.each(deeds)("a then of every object %s, and no slot is lost or given twice", async (_, deed) => {
    const { limiter } = open(text);
    const first = take(limiter, gmail);
    const waiting = [watch(limiter.acquire(small)), watch(limiter.acquire({ binding: "mta-2", domain: "gmail.com" }))];
    let called = 0;
    // A promise that is resolved asks for it at once, in the middle of the hand-over.
    // biome-ignore lint/suspicious/noThenProperty: that it is there is what is tested
    Object.defineProperty(Object.prototype, "then", {
      configurable: true,
      get() {
        if (called++ === 0) deed(limiter);
        return undefined;
      },
    });
    try {
      first.release();
    } finally {
      Reflect.deleteProperty(Object.prototype, "then");
    }
    expect(called).toBeGreaterThan(0);
    await turn();
    expect(waiting.map(({ settled }) => settled)).toEqual([1, 1]);
    expectWhole(
      limiter,
      waiting.map(({ value }) => value),
    );
  });

  it("an abort listener that came first releases and asks, and each slot has one holder", async () => {
    const { limiter } = open(ONE);
    const first = take(limiter, gmail);
    const controller = new AbortController();
    let inside: Lease | undefined;
    controller.signal.addEventListener("abort", () => {
      first.release();
      inside = limiter.tryAcquire(gmail);
    });
    const leaving = watch(limiter.acquire(gmail, { signal: controller.signal }));
    const staying = watch(limiter.acquire(gmail, { signal: controller.signal }));
    controller.abort("changed my mind");
    await turn();
    // The first was handed the slot while its signal was aborting: it keeps it, and the second leaves.
    expect([leaving.state, staying.state]).toEqual(["resolved", "rejected"]);
    expect(inside).toBeUndefined();
    expectWhole(limiter, [leaving.value]);
  });

  it("an observer sees no counts that are half changed", async () => {
    const seen: object[] = [];
    const look = (): void => {
      const { leases, waiting } = limiter.snapshot();
      seen.push({ leases, waiting });
    };
    const limiter = createLimiter(parsePolicy(text), {
      clock: new VirtualClock(),
      observer: { granted: look, released: look },
    });
    const lease = take(limiter, gmail);
    for (const target of [small, { binding: "mta-2", domain: "gmail.com" }]) watch(limiter.acquire(target));
    seen.splice(0);
    lease.release();
    expect(seen).toEqual([1, 2, 3].map(() => ({ leases: 2, waiting: 0 })));
  });

  it("an observer told of a change admits nobody before those who waited", async () => {
    const inside: (Lease | undefined)[] = [];
    const limiter = createLimiter(parsePolicy("max_outbound_connections = 0"), {
      clock: new VirtualClock(),
      observer: {
        updated: () => inside.push(limiter.tryAcquire(gmail)),
        granted: () => inside.push(limiter.tryAcquire(gmail)),
      },
    });
    const waiting = [1, 2, 3].map(() => watch(limiter.acquire(gmail)));
    limiter.update(parsePolicy("max_outbound_connections = 2"));
    await turn();
    expect(inside).toEqual([undefined, undefined, undefined]);
    expect(waiting.map(({ state }) => state)).toEqual(["resolved", "resolved", "pending"]);
  });
});

describe("a request that keeps slots, and leaves", () => {
  const text = `
    server_max_outbound_connections = -1
    max_outbound_connections = -1
    binding "b" { server_max_outbound_connections = 1 }
    domain "d.example" { scope_max_outbound_connections = 1 }`;

  interface Kept extends Opened {
    readonly leave: AbortController;
    readonly wanted: Watched<Lease>;
    /** The only lease that is out: the slot of the other limit is kept. */
    readonly held: Lease;
    readonly granted: Lease[];
  }

  /** Binding and domain are asked for all the time, and a slot of one of them is kept for who needs both. */
  async function kept(patience = Number.POSITIVE_INFINITY): Promise<Kept> {
    const opened = open(text);
    const { limiter } = opened;
    const granted: Lease[] = [];
    const ask = (target: Target): void =>
      void limiter.acquire(target, { timeout: patience }).then(
        (lease) => granted.push(lease),
        () => undefined,
      );
    const others: readonly Target[] = [
      { binding: "b", domain: "other.example" },
      { binding: "other", domain: "d.example" },
    ];
    for (const other of others) ask(other);
    const leave = new AbortController();
    const wanted = watch(
      limiter.acquire({ binding: "b", domain: "d.example" }, { signal: leave.signal, timeout: 1000 }),
    );
    for (let i = 0; i < 40; i++) for (const other of others) ask(other);
    await turn();
    for (let i = 0; i < 60 && limiter.snapshot().leases === 2; i++) {
      const binding = i % 2 === 0 ? "b" : "other";
      const [lease] = granted.splice(
        granted.findIndex(({ target }) => target.binding === binding),
        1,
      );
      lease?.release();
      await turn();
    }
    const [held] = granted;
    if (held === undefined || limiter.snapshot().leases !== 1) throw new Error("Nothing was kept");
    return { ...opened, leave, wanted, held, granted };
  }

  it("by its signal gives them back, and they are handed on at once", async () => {
    const { limiter, leave, wanted, clock } = await kept();
    leave.abort("changed my mind");
    expect(limiter.snapshot().leases).toBe(2);
    await turn();
    expect(wanted.error).toBe("changed my mind");
    expect(clock.armed).toBe(0);
  });

  it("by its timeout gives them back, and they are handed on at once", async () => {
    const { limiter, wanted, clock } = await kept();
    clock.advance(1000);
    expect(limiter.snapshot().leases).toBe(2);
    await turn();
    expect(wanted.error).toMatchObject({ code: "ERR_LIMITER_TIMEOUT" });
  });

  it("by its timeout hands them on to one whose time is up as well, and that one is not refused", async () => {
    const { limiter, clock, held, granted } = await kept(1000);
    clock.advance(1000);
    expect(limiter.snapshot()).toMatchObject({ leases: 2, waiting: 0 });
    await turn();
    expect(granted).toHaveLength(2);
    expect(granted).toContain(held);
    expectWhole(limiter, granted);
  });

  it("by going leaves nothing kept behind", async () => {
    const { limiter, wanted, held, granted } = await kept();
    held.release();
    granted.splice(0);
    await turn();
    expect(wanted.state).toBe("resolved");
    wanted.value?.release();
    expect(limiter.snapshot().leases).toBe(2);
    await turn();
    while (granted.length > 0) {
      granted.shift()?.release();
      await turn();
    }
    expect(limiter.snapshot()).toMatchObject(NOTHING);
    const both = [take(limiter, { binding: "b", domain: "x.example" }), take(limiter, { domain: "d.example" })];
    expectWhole(limiter, both);
  });

  it("lets nobody else have them while it stays", async () => {
    const { limiter, wanted } = await kept();
    for (const target of [
      { binding: "b", domain: "new.example" },
      { binding: "new", domain: "d.example" },
      { binding: "b", domain: "d.example" },
    ]) {
      expect(limiter.explain(target).verdict).toBe("wait");
      expect(limiter.tryAcquire(target)).toBeUndefined();
    }
    expect(wanted.state).toBe("pending");
  });

  it("by close gives them back to nobody", async () => {
    const { limiter, wanted, held } = await kept();
    const closing = watch(limiter.close());
    expect(limiter.snapshot()).toMatchObject({ leases: 1, waiting: 0 });
    held.release();
    await turn();
    expect([closing.state, wanted.state]).toEqual(["resolved", "rejected"]);
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("by a change of policy keeps nothing in the new table", async () => {
    const { limiter, wanted } = await kept();
    limiter.update(parsePolicy(text));
    expect(limiter.snapshot().leases).toBe(2);
    await turn();
    expect(wanted.state).toBe("pending");
  });
});

describe("a handle of a lease that was given back", () => {
  it.each([
    ["release", (lease: Lease) => lease.release()],
    ["a release that was taken off it", ({ release }: Lease) => release()],
    ["dispose", (lease: Lease) => lease[Symbol.dispose]()],
  ])("frees nobody else's slot by %s", async (_, again) => {
    const { limiter } = open(ONE);
    const first = take(limiter, gmail);
    const second = watch(limiter.acquire(gmail));
    const third = watch(limiter.acquire(gmail));
    first.release();
    await turn();
    again(first);
    again(first);
    await turn();
    expect([second.state, third.state]).toEqual(["resolved", "pending"]);
    expect(limiter.snapshot()).toMatchObject({ leases: 1, waiting: 1 });
    expect(second.value).not.toBe(first);
    second.value?.release();
    await turn();
    third.value?.release();
    again(first);
    const fourth = take(limiter, gmail);
    expect(fourth).not.toBe(first);
    again(first);
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
  });
});

describe("an await between the look and the taking", () => {
  it("lets two go who ask in one tick", async () => {
    const { limiter } = open(ONE);
    const both = [watch(limiter.acquire(gmail)), watch(limiter.acquire(gmail))];
    expect(limiter.snapshot()).toMatchObject({ leases: 1, waiting: 1 });
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
    await turn();
    expect(both.map(({ state }) => state)).toEqual(["resolved", "pending"]);
  });

  it("lets somebody in between the call of run and its work", async () => {
    const { limiter } = open(ONE);
    const work = watch(limiter.run(gmail, () => limiter.snapshot().leases));
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
    await turn();
    expect(work.value).toBe(1);
  });

  it("misses a release that comes right after", async () => {
    const { limiter } = open(ONE);
    const lease = take(limiter, gmail);
    const waiting = watch(limiter.acquire(gmail));
    lease.release();
    expect(limiter.snapshot()).toMatchObject({ leases: 1, waiting: 0 });
    await turn();
    expect(waiting.state).toBe("resolved");
  });

  it("misses an abort, or a close, that comes right after", async () => {
    const { limiter } = open(ONE);
    const lease = take(limiter, gmail);
    const controller = new AbortController();
    const aborted = watch(limiter.acquire(gmail, { signal: controller.signal }));
    controller.abort("changed my mind");
    const closed = watch(limiter.acquire(gmail));
    void limiter.close();
    expect(limiter.snapshot().waiting).toBe(0);
    lease.release();
    await turn();
    expect(aborted.error).toBe("changed my mind");
    expect(closed.error).toMatchObject({ code: "ERR_LIMITER_CLOSED" });
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });
});
