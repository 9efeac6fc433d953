// acquire and tryAcquire: waiting, going, and every way to be refused.
import { getEventListeners, setMaxListeners } from "node:events";
import { describe, expect, it, vi } from "vitest";
import {
  AcquireTimeoutError,
  createLimiter,
  definePolicy,
  isLimiterError,
  type Lease,
  LimiterClosedError,
  LimiterError,
  parsePolicy,
  QueueFullError,
  type Target,
} from "../../src/index.js";
import { NOTHING, open, turn, watch } from "./open.js";

const ONE = "max_outbound_connections = 1";
const gmail: Target = { binding: "mta-1", domain: "gmail.com" };
const small: Target = { binding: "mta-1", domain: "small.example" };

/** The lease of a target that has room. */
function take(lease: Lease | undefined): Lease {
  if (lease === undefined) throw new Error("There was no room");
  return lease;
}

describe("acquire", () => {
  it("goes at once when there is room", async () => {
    const { limiter } = open(ONE);
    const lease = await limiter.acquire(gmail);
    expect(lease.target).toMatchObject(gmail);
    expect(lease.waited).toBe(0);
    expect(limiter.snapshot()).toMatchObject({ leases: 1, waiting: 0 });
  });

  it("takes its slots before it returns, not when it is awaited", () => {
    const { limiter } = open(ONE);
    const lease = watch(limiter.acquire(gmail));
    expect(limiter.snapshot().leases).toBe(1);
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
    expect(lease.state).toBe("pending");
  });

  it("waits while a limit is full, and goes when a slot is released", async () => {
    const { limiter, clock } = open(ONE);
    const first = await limiter.acquire(gmail);
    const second = watch(limiter.acquire(gmail));
    await turn();
    expect(second.state).toBe("pending");
    expect(limiter.snapshot()).toMatchObject({ leases: 1, waiting: 1 });

    clock.advance(1234);
    first.release();
    await turn();
    expect(second.state).toBe("resolved");
    expect(second.value?.waited).toBe(1234);
    second.value?.release();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("holds nothing while it waits", () => {
    const { limiter } = open(`${ONE}\ndomain "gmail.com" { scope_max_outbound_connections = 1 }`);
    limiter.tryAcquire({ binding: "other", domain: "gmail.com" });
    void limiter.acquire(gmail);
    const own = limiter.explain(gmail).limits.find(({ option }) => option === "max_outbound_connections");
    expect(own?.inUse).toBe(0);
  });

  it("serves one queue in order of arrival, and resolves in that order", async () => {
    const { limiter } = open("max_outbound_connections = 3");
    const held = [1, 2, 3].map(() => take(limiter.tryAcquire(gmail)));
    const order: number[] = [];
    for (const i of [1, 2, 3, 4, 5]) void limiter.acquire(gmail).then(() => order.push(i));
    for (const lease of held) lease.release();
    await turn();
    expect(order).toEqual([1, 2, 3]);
  });

  it("keeps the order when one in the middle leaves", async () => {
    const { limiter } = open(ONE);
    let lease = take(limiter.tryAcquire(gmail));
    const controller = new AbortController();
    const first = watch(limiter.acquire(gmail));
    const second = watch(limiter.acquire(gmail, { signal: controller.signal }));
    const third = watch(limiter.acquire(gmail));
    controller.abort();
    for (const next of [first, third]) {
      lease.release();
      await turn();
      expect(next.state).toBe("resolved");
      lease = take(next.value);
    }
    expect(second.state).toBe("rejected");
  });

  it("does not overtake a request of the same target that waits", async () => {
    const { limiter } = open(ONE);
    const lease = take(limiter.tryAcquire(gmail));
    const waiting = watch(limiter.acquire(gmail));
    lease.release();
    const late = watch(limiter.acquire(gmail));
    await turn();
    expect(waiting.state).toBe("resolved");
    expect(late.state).toBe("pending");
  });

  it("does not let a full domain hold up another", async () => {
    const { limiter } = open(ONE);
    limiter.tryAcquire(gmail);
    void limiter.acquire(gmail);
    await expect(limiter.acquire(small)).resolves.toMatchObject({ waited: 0 });
  });

  it("counts one target however it is written", async () => {
    const { limiter } = open('max_outbound_connections = 1\nbinding_group "bulk" { binding "mta-1" {} }');
    const lease = take(limiter.tryAcquire({ binding: "mta-1", bindingGroup: "bulk", domain: "GMail.com." }));
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
    const first = watch(limiter.acquire({ binding: "mta-1", domain: "gmail.COM" }));
    const second = watch(limiter.acquire({ binding: "mta-1", bindingGroup: "bulk", domain: "gmail.com." }));
    lease.release();
    await turn();
    expect([first.state, second.state]).toEqual(["resolved", "pending"]);
  });

  it("admits nobody under a limit of 0", async () => {
    const { limiter, clock } = open('domain "gmail.com" { max_outbound_connections = 0 }');
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
    expect(limiter.explain(gmail).verdict).toBe("wait");
    const waiting = watch(limiter.acquire(gmail, { timeout: 1000 }));
    await turn();
    expect(waiting.state).toBe("pending");
    const { counters, ...totals } = limiter.snapshot();
    expect(totals).toMatchObject({ leases: 0, waiting: 1 });
    expect(counters.filter(({ waiting }) => waiting > 0)).toMatchObject([{ limit: 0, inUse: 0, waiting: 1 }]);
    clock.advance(1000);
    await turn();
    expect(waiting.state).toBe("rejected");
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("enforces a policy made by definePolicy alike", async () => {
    const limiter = createLimiter(definePolicy({ domain: { "gmail.com": { max_outbound_connections: 1 } } }));
    const lease = await limiter.acquire(gmail);
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
    lease.release();
    expect(limiter.tryAcquire(gmail)).toBeDefined();
  });
});

describe("tryAcquire", () => {
  it("returns undefined and changes nothing when a limit is full", () => {
    const { limiter } = open(ONE);
    limiter.tryAcquire(gmail);
    const before = limiter.snapshot();
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
    expect(limiter.snapshot()).toEqual(before);
  });

  it("takes none of its slots when one of its limits is full", () => {
    const { limiter } = open(
      'server_max_outbound_connections = 9\ndomain "gmail.com" { scope_max_outbound_connections = 1 }',
    );
    limiter.tryAcquire({ binding: "other", domain: "gmail.com" });
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
    const inUse = Object.fromEntries(limiter.explain(gmail).limits.map(({ option, inUse }) => [option, inUse]));
    expect(inUse).toEqual({
      server_max_outbound_connections: 1,
      scope_max_outbound_connections: 1,
      max_outbound_connections: 0,
    });
  });

  it("cannot steal a slot that a release has just handed over", async () => {
    const { limiter } = open(ONE);
    const lease = take(limiter.tryAcquire(gmail));
    const waiting = watch(limiter.acquire(gmail));
    lease.release();
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
    expect(limiter.snapshot()).toMatchObject({ leases: 1, waiting: 0 });
    await turn();
    expect(waiting.state).toBe("resolved");
  });

  it("cannot steal a shared slot from a waiting request of another queue", async () => {
    const { limiter } = open("server_max_outbound_connections = 1\nserver_reserve_outbound_connections = 0");
    const lease = take(limiter.tryAcquire(gmail));
    const waiting = watch(limiter.acquire(gmail));
    lease.release();
    expect(limiter.tryAcquire(small)).toBeUndefined();
    await turn();
    expect(waiting.state).toBe("resolved");
  });
});

describe("acquire with a timeout", () => {
  const text = `# What one machine may open.
server_max_outbound_connections = 20000

binding_group "bulk" {
  binding "mta-1" {
    # Their limit is 20.
    domain "gmail.com" {
      # Some room for others.
    max_outbound_connections = 15
    }
  }
}`;

  it("is refused when the time has passed, and says by what and where it was set", async () => {
    const { limiter, clock } = open(text);
    for (let i = 0; i < 15; i++) limiter.tryAcquire(gmail);
    const waiting = watch(limiter.acquire(gmail, { timeout: 30_000 }));
    clock.advance(29_999);
    await turn();
    expect(waiting.state).toBe("pending");
    clock.advance(1);
    await turn();
    const { error } = waiting;
    if (!(error instanceof AcquireTimeoutError)) return expect(error).toBeInstanceOf(AcquireTimeoutError);
    expect(error).toBeInstanceOf(LimiterError);
    expect(error.code).toBe("ERR_LIMITER_TIMEOUT");
    expect(error.name).toBe("AcquireTimeoutError");
    expect(error.waited).toBe(30_000);
    expect(error.target).toMatchObject(gmail);
    expect(error.blockedBy).toMatchObject([
      {
        option: "max_outbound_connections",
        limit: 15,
        inUse: 15,
        setAt: { source: "limits.conf", line: 9, column: 5 },
      },
    ]);
    expect(error.message).toBe(
      "No connection slot for gmail.com via mta-1 within 30000 ms: max_outbound_connections is full (15 of 15 in use, set at limits.conf:9:5)",
    );
  });

  it("names every limit that is full and none that has room", async () => {
    const { limiter } = open(`
      server_max_outbound_connections = 9
      max_outbound_connections = 1
      domain "gmail.com" { scope_max_outbound_connections = 1 }`);
    limiter.tryAcquire(gmail);
    const { error } = await refusal(limiter.acquire(gmail, { timeout: 0 }));
    if (!(error instanceof AcquireTimeoutError)) return expect(error).toBeInstanceOf(AcquireTimeoutError);
    expect(error.blockedBy.map(({ option }) => option).toSorted()).toEqual([
      "max_outbound_connections",
      "scope_max_outbound_connections",
    ]);
  });

  it("leaves nothing behind", async () => {
    const { limiter, clock } = open(ONE);
    const lease = take(limiter.tryAcquire(gmail));
    const waiting = watch(limiter.acquire(gmail, { timeout: 100 }));
    clock.advance(100);
    await turn();
    expect(waiting.settled).toBe(1);
    lease.release();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
    expect(clock.armed).toBe(0);
  });

  it("keeps the lease it got in time, whatever the clock says later", async () => {
    const { limiter, clock } = open(ONE);
    const first = take(limiter.tryAcquire(gmail));
    const waiting = watch(limiter.acquire(gmail, { timeout: 100 }));
    clock.advance(99);
    first.release();
    clock.advance(1000);
    await turn();
    expect(waiting.value?.waited).toBe(99);
    expect(limiter.snapshot()).toMatchObject({ leases: 1, waiting: 0 });
    waiting.value?.release();
    expect(clock.armed).toBe(0);
  });

  it("of 0 goes at once when there is room", async () => {
    const { limiter } = open(ONE);
    await expect(limiter.acquire(gmail, { timeout: 0 })).resolves.toMatchObject({ waited: 0 });
  });

  it("of 0 tries once and does not wait", async () => {
    const { limiter, clock } = open(ONE);
    limiter.tryAcquire(gmail);
    const waiting = watch(limiter.acquire(gmail, { timeout: 0 }));
    expect(limiter.snapshot().waiting).toBe(0);
    expect(clock.armed).toBe(0);
    await turn();
    expect(waiting.error).toMatchObject({ code: "ERR_LIMITER_TIMEOUT", waited: 0 });
  });

  it("fires in order of deadline, not of arrival", async () => {
    const { limiter, clock } = open(ONE);
    limiter.tryAcquire(gmail);
    const order: number[] = [];
    for (const timeout of [300, 100, 200, Infinity, 100]) {
      limiter.acquire(gmail, { timeout }).catch(() => order.push(timeout));
    }
    clock.advance(100);
    await turn();
    expect(order).toEqual([100, 100]);
    clock.advance(200);
    await turn();
    expect(order).toEqual([100, 100, 200, 300]);
    expect(limiter.snapshot().waiting).toBe(1);
  });

  it("without one, arms no timer", () => {
    const { limiter, clock } = open(ONE);
    limiter.tryAcquire(gmail);
    void limiter.acquire(gmail);
    void limiter.acquire(gmail, { timeout: Infinity });
    expect(clock.armed).toBe(0);
  });

  it.each([-1, -0.5, Number.NaN, -Infinity])("refuses %d as a RangeError and counts nothing", async (timeout) => {
    const { limiter } = open(ONE);
    const { error } = await refusal(limiter.acquire(gmail, { timeout }));
    expect(error).toBeInstanceOf(RangeError);
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it.each([["5"], [true], [5n], [{}], [[5]]])("refuses %o as a TypeError and counts nothing", async (timeout) => {
    const { limiter } = open(ONE);
    const options = { timeout } as unknown as { timeout: number };
    const { error } = await refusal(limiter.acquire(gmail, options));
    expect(error).toBeInstanceOf(TypeError);
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });
});

describe("acquire with a signal", () => {
  it.each([[new Error("enough")], ["a string"], [null], [0], [{ reason: "an object" }]])(
    "rejects with the reason %o untouched",
    async (reason) => {
      const { limiter } = open(ONE);
      const lease = take(limiter.tryAcquire(gmail));
      const controller = new AbortController();
      const waiting = watch(limiter.acquire(gmail, { signal: controller.signal }));
      controller.abort(reason);
      expect(limiter.snapshot().waiting).toBe(0);
      await turn();
      expect(waiting.state).toBe("rejected");
      expect(waiting.error).toBe(reason);
      lease.release();
      expect(limiter.snapshot()).toMatchObject(NOTHING);
    },
  );

  it("rejects with the signal's own AbortError when no reason was given", async () => {
    const { limiter } = open(ONE);
    limiter.tryAcquire(gmail);
    const controller = new AbortController();
    const waiting = watch(limiter.acquire(gmail, { signal: controller.signal }));
    controller.abort();
    await turn();
    expect(waiting.error).toBe(controller.signal.reason);
  });

  it("takes nothing when the signal has already aborted, even with room", async () => {
    const { limiter } = open(ONE);
    const reason = new Error("too late");
    const waiting = watch(limiter.acquire(gmail, { signal: AbortSignal.abort(reason) }));
    expect(limiter.snapshot()).toMatchObject(NOTHING);
    await turn();
    expect(waiting.error).toBe(reason);
  });

  it("ignores an abort after the lease was delivered", async () => {
    const { limiter } = open(ONE);
    const controller = new AbortController();
    const lease = await limiter.acquire(gmail, { signal: controller.signal });
    controller.abort();
    expect(limiter.snapshot().leases).toBe(1);
    expect(lease.lost.aborted).toBe(false);
  });

  it("aborted in the same tick as it was handed its slot, it delivers the lease or returns it", async () => {
    const { limiter } = open(ONE);
    const lease = take(limiter.tryAcquire(gmail));
    const controller = new AbortController();
    const waiting = watch(limiter.acquire(gmail, { signal: controller.signal }));
    const next = watch(limiter.acquire(gmail));
    lease.release();
    controller.abort("changed my mind");
    await turn();
    expect(waiting.settled).toBe(1);
    if (waiting.state === "resolved") {
      expect(next.state).toBe("pending");
    } else {
      expect(waiting.error).toBe("changed my mind");
      expect(next.state).toBe("resolved");
    }
    expect(limiter.snapshot().leases).toBe(1);
    waiting.value?.release();
    await turn();
    next.value?.release();
    expect(next.settled).toBe(1);
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("aborted just before the release, it lets the next one go", async () => {
    const { limiter } = open(ONE);
    const lease = take(limiter.tryAcquire(gmail));
    const controller = new AbortController();
    const waiting = watch(limiter.acquire(gmail, { signal: controller.signal }));
    const next = watch(limiter.acquire(gmail));
    controller.abort("changed my mind");
    lease.release();
    await turn();
    expect(waiting).toMatchObject({ state: "rejected", error: "changed my mind" });
    expect(next.state).toBe("resolved");
  });

  it("aborted when its time is up as well, it settles once", async () => {
    const { limiter, clock } = open(ONE);
    limiter.tryAcquire(gmail);
    const controller = new AbortController();
    const waiting = watch(limiter.acquire(gmail, { signal: controller.signal, timeout: 10 }));
    clock.advance(10);
    controller.abort();
    await turn();
    expect(waiting.settled).toBe(1);
    expect(waiting.error).toMatchObject({ code: "ERR_LIMITER_TIMEOUT" });
    expect(limiter.snapshot().waiting).toBe(0);
  });

  it("lets an abort listener of the user call the limiter", async () => {
    const { limiter } = open(ONE);
    const lease = take(limiter.tryAcquire(gmail));
    const controller = new AbortController();
    let inside: Lease | undefined;
    controller.signal.addEventListener("abort", () => {
      lease.release();
      inside = limiter.tryAcquire(gmail);
    });
    const waiting = watch(limiter.acquire(gmail, { signal: controller.signal }));
    controller.abort();
    await turn();
    // The user's listener was there first: the waiting request was handed the slot while its signal was aborting.
    expect(waiting.settled).toBe(1);
    expect(waiting.state === "resolved" && inside !== undefined).toBe(false);
    expect(limiter.snapshot().leases).toBe(Number(waiting.state === "resolved") + Number(inside !== undefined));
    inside?.release();
    waiting.value?.release();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("leaves no listener on a signal that outlives its requests", async () => {
    const { limiter, clock } = open(ONE);
    const { signal } = new AbortController();
    const lease = await limiter.acquire(gmail, { signal });
    const second = watch(limiter.acquire(gmail, { signal }));
    const third = watch(limiter.acquire(gmail, { signal, timeout: 10 }));
    clock.advance(10);
    lease.release();
    await turn();
    expect([second.state, third.state]).toEqual(["resolved", "rejected"]);
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });

  it("rejects each of 10,000 requests on one signal once, without a warning of too many listeners", async () => {
    const { limiter, clock } = open(ONE);
    const warnings: Error[] = [];
    const listener = (warning: Error): void => void warnings.push(warning);
    process.on("warning", listener);
    const controller = new AbortController();
    setMaxListeners(10, controller.signal);
    const lease = take(limiter.tryAcquire(gmail));
    const waiting = Array.from({ length: 10_000 }, (_, i) =>
      watch(
        limiter.acquire(i % 2 === 0 ? gmail : { ...gmail, host: `mx${String(i % 7)}` }, { signal: controller.signal }),
      ),
    );
    controller.abort("all of you");
    await turn();
    await turn();
    process.off("warning", listener);
    expect(waiting.filter(({ settled, error }) => settled === 1 && error === "all of you")).toHaveLength(10_000);
    expect(warnings).toEqual([]);
    lease.release();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
    expect(clock.armed).toBe(0);
  });
});

describe("acquire with maxWaiting", () => {
  it("is refused at once when that many wait", async () => {
    const { limiter } = open(ONE, { maxWaiting: 2 });
    limiter.tryAcquire(gmail);
    void limiter.acquire(gmail);
    void limiter.acquire(gmail);
    const { error } = await refusal(limiter.acquire(gmail));
    expect(error).toBeInstanceOf(QueueFullError);
    expect(error).toBeInstanceOf(LimiterError);
    expect(error).toMatchObject({ code: "ERR_LIMITER_QUEUE_FULL", name: "QueueFullError", waiting: 2 });
    expect(limiter.snapshot().waiting).toBe(2);
  });

  it("goes when it has room, however many wait for others", async () => {
    const { limiter } = open(ONE, { maxWaiting: 1 });
    limiter.tryAcquire(gmail);
    void limiter.acquire(gmail);
    await expect(limiter.acquire(small)).resolves.toBeDefined();
  });

  it("may wait again when one has left", async () => {
    const { limiter } = open(ONE, { maxWaiting: 1 });
    const lease = take(limiter.tryAcquire(gmail));
    const controller = new AbortController();
    watch(limiter.acquire(gmail, { signal: controller.signal }));
    controller.abort();
    const second = watch(limiter.acquire(gmail));
    lease.release();
    const third = watch(limiter.acquire(gmail));
    await turn();
    expect([second.state, third.state]).toEqual(["resolved", "pending"]);
  });

  it("of 0 lets nobody wait", async () => {
    const { limiter } = open(ONE, { maxWaiting: 0 });
    await limiter.acquire(gmail);
    expect((await refusal(limiter.acquire(gmail))).error).toMatchObject({ code: "ERR_LIMITER_QUEUE_FULL", waiting: 0 });
  });
});

describe("a malformed target", () => {
  const malformed: readonly (readonly [string, unknown])[] = [
    ["no object", undefined],
    ["null", null],
    ["no domain", {}],
    ["an empty domain", { domain: "" }],
    ["an empty label", { domain: "a..example" }],
    ["white space", { domain: "a b.example" }],
    ["a domain of 254 octets", { domain: `${"a.".repeat(125)}exam` }],
    ["a domain that is no string", { domain: 5 }],
    ["a binding that is no string", { binding: 5, domain: "a.example" }],
    ["a group other than the policy's", { binding: "mta-1", bindingGroup: "other", domain: "a.example" }],
  ];

  it.each(malformed)("(%s) is a TypeError of every method, and nothing is counted", async (_, target) => {
    const { limiter } = open('binding_group "bulk" { binding "mta-1" { } }');
    const wrong = target as Target;
    const work = vi.fn();
    expect((await refusal(limiter.acquire(wrong))).error).toBeInstanceOf(TypeError);
    expect((await refusal(limiter.run(wrong, work))).error).toBeInstanceOf(TypeError);
    expect(() => limiter.tryAcquire(wrong)).toThrow(TypeError);
    expect(() => limiter.explain(wrong)).toThrow(TypeError);
    expect(work).not.toHaveBeenCalled();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });
});

describe("what is no target or no option at all", () => {
  it.each([
    [undefined, "A target must be an object, not undefined"],
    [[gmail], "A target must be an object, not an array: acquireAny takes several"],
    [Promise.resolve(gmail), "A target must be an object, not a promise: await it first"],
  ])("is named: %o", async (target, message) => {
    const { limiter } = open(ONE);
    // Also once something is known of the default binding.
    await limiter.acquire({ domain: "other.example" });
    const { error } = await refusal(limiter.acquire(target as never));
    expect(error).toEqual(new TypeError(message));
  });

  it.each([
    [50, "Options must be an object, not number"],
    [null, "Options must be an object, not null"],
    [{ signal: {} }, "Option signal must be an AbortSignal, not object"],
    [{ signal: null }, "Option signal must be an AbortSignal, not null"],
    [{ timeout: "5" }, "Option timeout must be a number of milliseconds, not string"],
    [{ timeoutMs: 5 }, "Unknown option timeoutMs"],
  ])("is named: %o", async (options, message) => {
    const { limiter } = open(ONE);
    const { error } = await refusal(limiter.acquire(gmail, options as never));
    expect(error).toEqual(new TypeError(message));
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });
});

describe("isLimiterError", () => {
  it("knows every error of the library, and no other", async () => {
    const { limiter } = open(ONE, { maxWaiting: 0 });
    await limiter.acquire(gmail);
    const timeout = await refusal(limiter.acquire(gmail, { timeout: 0 }));
    const full = await refusal(limiter.acquire(gmail));
    void limiter.close();
    const closed = await refusal(limiter.acquire(gmail));
    expect(closed.error).toBeInstanceOf(LimiterClosedError);
    let policy: unknown;
    try {
      parsePolicy("max_outbund_connections = 1");
    } catch (error) {
      policy = error;
    }
    for (const error of [timeout.error, full.error, closed.error, policy]) expect(isLimiterError(error)).toBe(true);
    for (const other of [new Error("other"), new TypeError("other"), null, undefined, "ERR_LIMITER_TIMEOUT", {}]) {
      expect(isLimiterError(other)).toBe(false);
    }
  });

  it("knows an error of a second copy of the package", async () => {
    vi.resetModules();
    const copy = await import("../../src/index.js");
    expect(copy.AcquireTimeoutError).not.toBe(AcquireTimeoutError);
    const limiter = copy.createLimiter(copy.parsePolicy("max_outbound_connections = 0"));
    const { error } = await refusal(limiter.acquire(gmail, { timeout: 0 }));
    expect(error).not.toBeInstanceOf(AcquireTimeoutError);
    expect(isLimiterError(error)).toBe(true);
  });
});

/** What a promise is rejected with. It is an object, so that no error passes for "did not reject". */
async function refusal(promise: Promise<unknown>): Promise<{ readonly error: unknown }> {
  try {
    await promise;
  } catch (error) {
    return { error };
  }
  throw new Error("It was not refused");
}
