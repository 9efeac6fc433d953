// limiter.close: refuses, rejects, waits for the leases, revokes nothing.
import { describe, expect, it, vi } from "vitest";
import {
  createLimiter,
  type Lease,
  LimiterClosedError,
  LimiterError,
  parsePolicy,
  type Target,
} from "../../src/index.js";
import { NOTHING, open, turn, watch } from "./open.js";

const ONE = "max_outbound_connections = 1";
const gmail: Target = { binding: "mta-1", domain: "gmail.com" };
const small: Target = { binding: "mta-1", domain: "small.example" };

describe("close", () => {
  it("resolves at once when nothing is out", async () => {
    const { limiter, clock } = open(ONE);
    await limiter.close();
    await open(ONE).limiter.close({ timeout: 1000 });
    expect(clock.armed).toBe(0);
  });

  it("admits nobody out of what a request passed over often was let keep", async () => {
    const { limiter } = open(`
      max_outbound_connections = -1
      binding "b" { server_max_outbound_connections = 1 }
      domain "d.example" { scope_max_outbound_connections = 1 }`);
    const kinds: readonly [Target, Target] = [
      { binding: "b", domain: "x.example" },
      { binding: "c", domain: "d.example" },
    ];
    const granted = kinds.map((kind) => {
      const leases: Lease[] = [];
      return {
        kind,
        leases,
        ask: () =>
          void limiter.acquire(kind).then(
            (lease) => leases.push(lease),
            () => undefined,
          ),
      };
    });
    for (const { ask } of granted) ask();
    const needsBoth = watch(limiter.acquire({ binding: "b", domain: "d.example" }));
    for (const { ask } of granted) for (let waiting = 0; waiting < 30; waiting++) ask();
    await turn();
    // Until a freed slot is handed to nobody: then the one that needs both keeps it.
    for (let step = 0; step < 60 && limiter.snapshot().leases === 2; step++) {
      granted[step % 2]?.leases.shift()?.release();
      await turn();
    }
    expect(limiter.snapshot().leases).toBe(1);
    expect(needsBoth.settled).toBe(0);
    const before = limiter.snapshot().leases;
    const closing = limiter.close({ timeout: 0 });
    expect(limiter.snapshot()).toMatchObject({ leases: before, waiting: 0 });
    await closing;
  });

  it("rejects every waiting request", async () => {
    const { limiter, clock } = open(ONE);
    const lease = await limiter.acquire(gmail);
    const controller = new AbortController();
    const waiting = [
      watch(limiter.acquire(gmail)),
      watch(limiter.acquire(gmail, { timeout: 1000 })),
      watch(limiter.acquire({ ...gmail, host: "mx" }, { signal: controller.signal })),
      watch(limiter.run(gmail, vi.fn())),
    ];
    const closing = watch(limiter.close());
    expect(limiter.snapshot()).toMatchObject({ leases: 1, waiting: 0 });
    expect(clock.armed).toBe(0);
    await turn();
    for (const { error } of waiting) {
      expect(error).toBeInstanceOf(LimiterClosedError);
      expect(error).toBeInstanceOf(LimiterError);
      expect(error).toMatchObject({ code: "ERR_LIMITER_CLOSED", name: "LimiterClosedError" });
    }
    controller.abort();
    clock.advance(1000);
    await turn();
    expect(waiting.map(({ settled }) => settled)).toEqual([1, 1, 1, 1]);
    expect(closing.state).toBe("pending");
    lease.release();
    await turn();
    expect(closing.state).toBe("resolved");
  });

  it("refuses new requests, with room or without", async () => {
    const { limiter } = open(ONE);
    await limiter.acquire(gmail);
    void limiter.close();
    await expect(limiter.acquire(gmail)).rejects.toBeInstanceOf(LimiterClosedError);
    await expect(limiter.acquire(small)).rejects.toBeInstanceOf(LimiterClosedError);
    await expect(limiter.acquire(small, { timeout: 0 })).rejects.toBeInstanceOf(LimiterClosedError);
    const work = vi.fn();
    await expect(limiter.run(small, work)).rejects.toBeInstanceOf(LimiterClosedError);
    expect(work).not.toHaveBeenCalled();
    expect(limiter.snapshot()).toMatchObject({ leases: 1, waiting: 0 });
  });

  it("lets tryAcquire have no lease", () => {
    const { limiter } = open(ONE);
    void limiter.close();
    let lease: Lease | undefined;
    try {
      lease = limiter.tryAcquire(small);
    } catch (error) {
      expect(error).toBeInstanceOf(LimiterClosedError);
    }
    expect(lease).toBeUndefined();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("hands a slot that comes back to nobody", async () => {
    const { limiter } = open(ONE);
    const lease = await limiter.acquire(gmail);
    const waiting = watch(limiter.acquire(gmail));
    const closing = limiter.close();
    lease.release();
    await closing;
    await turn();
    expect(waiting.error).toBeInstanceOf(LimiterClosedError);
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("resolves when the last lease is back, not before", async () => {
    const { limiter } = open("max_outbound_connections = 2");
    const leases = [await limiter.acquire(gmail), await limiter.acquire(gmail), await limiter.acquire(small)];
    const closing = watch(limiter.close());
    for (const lease of leases) {
      await turn();
      expect(closing.state).toBe("pending");
      lease.release();
      lease.release();
    }
    await turn();
    expect(closing.state).toBe("resolved");
    expect(closing.value).toBeUndefined();
  });

  it("waits for a lease that was handed over just before", async () => {
    const { limiter } = open(ONE);
    const first = await limiter.acquire(gmail);
    const second = watch(limiter.acquire(gmail));
    first.release();
    const closing = watch(limiter.close());
    await turn();
    expect(second.settled).toBe(1);
    if (second.state === "resolved") {
      expect(closing.state).toBe("pending");
      second.value?.release();
      await turn();
    }
    expect(closing.state).toBe("resolved");
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("resolves after its timeout; what is out stays good and may be released", async () => {
    const { limiter, clock } = open(ONE);
    const lease = await limiter.acquire(gmail);
    const closing = watch(limiter.close({ timeout: 5000 }));
    clock.advance(4999);
    await turn();
    expect(closing.state).toBe("pending");
    clock.advance(1);
    await turn();
    expect(closing.state).toBe("resolved");
    expect(lease.lost.aborted).toBe(false);
    expect(limiter.snapshot().leases).toBe(1);
    lease.release();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
    expect(clock.armed).toBe(0);
  });

  it("leaves no timer armed when the leases come back in time", async () => {
    const { limiter, clock } = open(ONE);
    const lease = await limiter.acquire(gmail);
    const closing = limiter.close({ timeout: 5000 });
    lease.release();
    await closing;
    expect(clock.armed).toBe(0);
  });

  it("may be called twice: both resolve when everything is back", async () => {
    const { limiter } = open(ONE);
    const lease = await limiter.acquire(gmail);
    const first = watch(limiter.close());
    const second = watch(limiter.close());
    await turn();
    expect([first.state, second.state]).toEqual(["pending", "pending"]);
    lease.release();
    await turn();
    expect([first.state, second.state]).toEqual(["resolved", "resolved"]);
    await limiter.close();
  });

  it("called again with a shorter timeout, resolves the second call then", async () => {
    const { limiter, clock } = open(ONE);
    await limiter.acquire(gmail);
    void limiter.close();
    const second = watch(limiter.close({ timeout: 10 }));
    clock.advance(10);
    await turn();
    expect(second.state).toBe("resolved");
  });
});

describe("limiter[Symbol.asyncDispose]", () => {
  it("closes at the end of a block with await using", async () => {
    let outside: Lease | undefined;
    let waiting: ReturnType<typeof watch<Lease>> | undefined;
    const block = async (): Promise<void> => {
      await using limiter = createLimiter(parsePolicy(ONE));
      outside = await limiter.acquire(gmail);
      waiting = watch(limiter.acquire(gmail));
    };
    const left = watch(block());
    await turn();
    expect(waiting?.error).toBeInstanceOf(LimiterClosedError);
    expect(left.state).toBe("pending");
    outside?.release();
    await turn();
    expect(left.state).toBe("resolved");
  });
});
