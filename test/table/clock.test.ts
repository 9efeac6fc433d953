// The limiter's clock: its own, one that fails, and times too long for setTimeout.
import { describe, expect, it } from "vitest";
import { type Clock, createLimiter, type Lease, type LocalLimiter, parsePolicy, type Target } from "../../src/index.js";
import { VirtualClock } from "../model/clock.js";
import { NOTHING, turn, watch } from "./open.js";

const ONE = "max_outbound_connections = 1";
const gmail: Target = { binding: "mta-1", domain: "gmail.com" };

/** A clock of which either half can be made to throw. */
class FailingClock implements Clock {
  readonly #clock = new VirtualClock();
  readonly failure = new Error("The clock failed");
  fails: "now" | "after" | "no" = "no";

  now(): number {
    if (this.fails === "now") throw this.failure;
    return this.#clock.now();
  }

  after(delay: number, run: () => void): Disposable {
    if (this.fails === "after") throw this.failure;
    return this.#clock.after(delay, run);
  }

  get armed(): number {
    return this.#clock.armed;
  }
}

function openFailing(): { clock: FailingClock; limiter: LocalLimiter } {
  const clock = new FailingClock();
  return { clock, limiter: createLimiter(parsePolicy(ONE), { clock }) };
}

/** The one slot is free and can be taken and given back. */
function expectNoLeak(limiter: LocalLimiter): void {
  expect(limiter.snapshot()).toMatchObject(NOTHING);
  const lease = limiter.tryAcquire(gmail);
  expect(lease).toBeDefined();
  lease?.release();
  expect(limiter.snapshot()).toMatchObject(NOTHING);
}

describe("a clock that throws", () => {
  it.each(["now", "after"] as const)("in %s() leaks no slot of an acquire that has room", async (fails) => {
    const { clock, limiter } = openFailing();
    clock.fails = fails;
    const result = watch(limiter.acquire(gmail, { timeout: 100 }));
    await turn();
    clock.fails = "no";
    expect(result.settled).toBe(1);
    if (result.state === "rejected") expect(result.error).toBe(clock.failure);
    result.value?.release();
    expectNoLeak(limiter);
  });

  it("in now() leaks no slot of tryAcquire", () => {
    const { clock, limiter } = openFailing();
    clock.fails = "now";
    let lease: Lease | undefined;
    try {
      lease = limiter.tryAcquire(gmail);
    } catch (error) {
      expect(error).toBe(clock.failure);
    }
    clock.fails = "no";
    lease?.release();
    expectNoLeak(limiter);
  });

  it.each(["now", "after"] as const)("in %s() leaves nobody waiting who was refused", async (fails) => {
    const { clock, limiter } = openFailing();
    const lease = await limiter.acquire(gmail);
    clock.fails = fails;
    const result = watch(limiter.acquire(gmail, { timeout: 100 }));
    await turn();
    clock.fails = "no";
    expect(result).toMatchObject({ state: "rejected", error: clock.failure });
    expect(limiter.snapshot()).toMatchObject({ leases: 1, waiting: 0 });
    lease.release();
    expectNoLeak(limiter);
    expect(clock.armed).toBe(0);
  });

  it("in after() does not hold up who waits without a timeout", async () => {
    const { clock, limiter } = openFailing();
    const lease = await limiter.acquire(gmail);
    clock.fails = "after";
    watch(limiter.acquire(gmail, { timeout: 100 }));
    const waiting = watch(limiter.acquire(gmail));
    lease.release();
    await turn();
    expect(waiting.state).toBe("resolved");
    waiting.value?.release();
    expectNoLeak(limiter);
  });

  it("in now() does not make release throw, and the slot is not lost", async () => {
    const { clock, limiter } = openFailing();
    const lease = await limiter.acquire(gmail);
    const waiting = watch(limiter.acquire(gmail));
    clock.fails = "now";
    expect(() => {
      lease.release();
    }).not.toThrow();
    await turn();
    clock.fails = "no";
    expect(waiting.settled).toBe(1);
    expect(limiter.snapshot()).toMatchObject({ leases: waiting.state === "resolved" ? 1 : 0, waiting: 0 });
    waiting.value?.release();
    expectNoLeak(limiter);
  });

  it.each(["now", "after"] as const)("in %s() does not keep run from releasing", async (fails) => {
    const { clock, limiter } = openFailing();
    const result = watch(
      limiter.run(gmail, () => {
        clock.fails = fails;
        return "sent";
      }),
    );
    await turn();
    clock.fails = "no";
    expect(result.value).toBe("sent");
    expectNoLeak(limiter);
  });

  it("in after() does not keep close from rejecting who waits", async () => {
    const { clock, limiter } = openFailing();
    const lease = await limiter.acquire(gmail);
    const waiting = watch(limiter.acquire(gmail));
    clock.fails = "after";
    const closing = watch(limiter.close({ timeout: 100 }));
    await turn();
    clock.fails = "no";
    expect(waiting.error).toMatchObject({ code: "ERR_LIMITER_CLOSED" });
    lease.release();
    await turn();
    expect(closing.settled).toBe(1);
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });
});

describe("the limiter's own clock", () => {
  it("refuses a request whose time is up", async () => {
    const limiter = createLimiter(parsePolicy(ONE));
    await limiter.acquire(gmail);
    await expect(limiter.acquire(gmail, { timeout: 1 })).rejects.toMatchObject({ code: "ERR_LIMITER_TIMEOUT" });
    expect(limiter.snapshot().waiting).toBe(0);
  });

  it.each([2 ** 31 - 1, 2 ** 31, 2 ** 32 + 1, 1e15, Number.MAX_SAFE_INTEGER, Number.MAX_VALUE, Infinity])(
    "does not take a timeout of %d ms for a short one",
    async (timeout) => {
      const warnings: Error[] = [];
      const listener = (warning: Error): void => void warnings.push(warning);
      process.on("warning", listener);
      const limiter = createLimiter(parsePolicy(ONE));
      const lease = await limiter.acquire(gmail);
      const controller = new AbortController();
      const waiting = watch(limiter.acquire(gmail, { timeout, signal: controller.signal }));
      const next = watch(limiter.acquire(gmail, { timeout }));
      const closing = watch(createBusy().close({ timeout }));
      // A timer whose delay overflowed is due after 1 ms, and so before this one.
      await new Promise((resolve) => setTimeout(resolve, 20));
      process.off("warning", listener);
      expect([waiting.state, next.state, closing.state]).toEqual(["pending", "pending", "pending"]);
      expect(warnings).toEqual([]);

      controller.abort();
      lease.release();
      await turn();
      expect([waiting.state, next.state]).toEqual(["rejected", "resolved"]);
      next.value?.release();
      expect(limiter.snapshot()).toMatchObject(NOTHING);
    },
  );

  it("leaves no timer that keeps the process alive", async () => {
    const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
    const before = timers();
    const limiter = createLimiter(parsePolicy(ONE));
    const lease = await limiter.acquire(gmail);
    const controller = new AbortController();
    const aborted = watch(limiter.acquire(gmail, { timeout: 60_000, signal: controller.signal }));
    const served = watch(limiter.acquire(gmail, { timeout: 50_000 }));
    controller.abort();
    lease.release();
    await turn();
    served.value?.release();
    expect([aborted.state, served.state]).toEqual(["rejected", "resolved"]);
    expect(timers()).toBeLessThanOrEqual(before);
  });
});

/** A limiter one of whose leases is never given back. */
function createBusy(): LocalLimiter {
  const limiter = createLimiter(parsePolicy(ONE));
  limiter.tryAcquire(gmail);
  return limiter;
}

describe("timers", () => {
  it("are armed only while somebody waits with a timeout", async () => {
    const clock = new VirtualClock();
    const limiter = createLimiter(parsePolicy(ONE), { clock });
    expect(clock.armed).toBe(0);
    const lease = await limiter.acquire(gmail, { timeout: 100 });
    expect(clock.armed).toBe(0);
    const waiting = watch(limiter.acquire(gmail, { timeout: 100 }));
    expect(clock.armed).toBeGreaterThan(0);
    lease.release();
    await turn();
    waiting.value?.release();
    expect(clock.armed).toBe(0);
  });

  it("fire at the deadline of the earliest who still waits", async () => {
    const clock = new VirtualClock();
    const limiter = createLimiter(parsePolicy(ONE), { clock });
    limiter.tryAcquire(gmail);
    const controller = new AbortController();
    watch(limiter.acquire(gmail, { timeout: 50, signal: controller.signal }));
    const second = watch(limiter.acquire(gmail, { timeout: 200 }));
    controller.abort();
    clock.advance(199);
    const third = watch(limiter.acquire(gmail, { timeout: 100 }));
    await turn();
    expect(second.state).toBe("pending");
    clock.advance(1);
    await turn();
    expect([second.state, third.state]).toEqual(["rejected", "pending"]);
    clock.advance(99);
    await turn();
    expect(third.state).toBe("rejected");
    expect(clock.armed).toBe(0);
  });
});
