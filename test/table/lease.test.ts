// Lease: given back once, by any of its ways, and never taken away by local limits.
import { EventEmitter } from "node:events";
import { describe, expect, it } from "vitest";
import { parsePolicy, type Target } from "../../src/index.js";
import { NOTHING, open, turn, watch } from "./open.js";

const ONE = "max_outbound_connections = 1";
const TWO = "max_outbound_connections = 2";
const gmail: Target = { binding: "mta-1", domain: "gmail.com" };

describe("lease.release", () => {
  it("gives every slot back", async () => {
    const { limiter } = open(
      'scope_max_outbound_connections = 5\ndomain "gmail.com" { scope_max_outbound_connections = 5 }',
    );
    const lease = await limiter.acquire(gmail);
    expect(limiter.snapshot().counters).toHaveLength(3);
    lease.release();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("needs no this", async () => {
    const { limiter } = open(ONE);
    const { release } = await limiter.acquire(gmail);
    release();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("serves as an event listener, whatever it is called with", async () => {
    const { limiter } = open(ONE);
    const socket = new EventEmitter();
    const lease = await limiter.acquire(gmail);
    socket.once("close", lease.release);
    socket.emit("close", true);
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("does nothing the second time: the slot may be another's by then", async () => {
    const { limiter } = open(ONE);
    const lease = await limiter.acquire(gmail);
    const second = watch(limiter.acquire(gmail));
    const third = watch(limiter.acquire(gmail));
    lease.release();
    lease.release();
    lease[Symbol.dispose]();
    await turn();
    expect([second.state, third.state]).toEqual(["resolved", "pending"]);
    lease.release();
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
    expect(limiter.snapshot()).toMatchObject({ leases: 1, waiting: 1 });
  });

  it("frees one slot of two, however often it is called", () => {
    const { limiter } = open(TWO);
    const first = limiter.tryAcquire(gmail);
    limiter.tryAcquire(gmail);
    for (let i = 0; i < 3; i++) first?.release();
    expect(limiter.tryAcquire(gmail)).toBeDefined();
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
  });

  it("is its own: of two leases each frees its own slot", () => {
    const { limiter } = open(TWO);
    const first = limiter.tryAcquire(gmail);
    first?.release();
    const second = limiter.tryAcquire(gmail);
    const third = limiter.tryAcquire({ ...gmail, domain: "small.example" });
    first?.release();
    expect(limiter.snapshot().leases).toBe(2);
    second?.release();
    expect([...limiter.leases()].map(({ target }) => target.domain)).toEqual(["small.example"]);
    third?.release();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("hands the slot over before it returns", () => {
    const { limiter } = open(ONE);
    const lease = limiter.tryAcquire(gmail);
    void limiter.acquire(gmail);
    lease?.release();
    expect(limiter.snapshot()).toMatchObject({ leases: 1, waiting: 0 });
  });

  it("lets everyone go for whom it makes room, not only the first", async () => {
    const { limiter } = open(`
      binding "mta-1" { server_max_outbound_connections = 1 }
      domain "gmail.com" { scope_max_outbound_connections = 1 }`);
    const lease = await limiter.acquire(gmail);
    const sameBinding = watch(limiter.acquire({ binding: "mta-1", domain: "small.example" }));
    const sameDomain = watch(limiter.acquire({ binding: "mta-2", domain: "gmail.com" }));
    lease.release();
    await turn();
    expect([sameBinding.state, sameDomain.state]).toEqual(["resolved", "resolved"]);
  });

  it("works after the policy no longer sets the limit", async () => {
    const { limiter } = open('domain "gmail.com" { scope_max_outbound_connections = 1 }');
    const lease = await limiter.acquire(gmail);
    limiter.update(parsePolicy("max_outbound_connections = 1"));
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
    lease.release();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
    expect(limiter.tryAcquire(gmail)).toBeDefined();
  });
});

describe("lease[Symbol.dispose]", () => {
  it("releases at the end of a block with using", async () => {
    const { limiter } = open(ONE);
    {
      using lease = await limiter.acquire(gmail);
      expect(lease.target).toMatchObject(gmail);
      expect(limiter.snapshot().leases).toBe(1);
    }
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("releases when the block throws", async () => {
    const { limiter } = open(ONE);
    const work = async (): Promise<void> => {
      using _lease = await limiter.acquire(gmail);
      throw new Error("the connection failed");
    };
    await expect(work()).rejects.toThrow("the connection failed");
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });

  it("does nothing after release, nor release after it", async () => {
    const { limiter } = open(TWO);
    const lease = await limiter.acquire(gmail);
    const other = await limiter.acquire(gmail);
    lease[Symbol.dispose]();
    lease.release();
    lease[Symbol.dispose]();
    expect(limiter.snapshot().leases).toBe(1);
    other.release();
    expect(limiter.snapshot()).toMatchObject(NOTHING);
  });
});

describe("lease.waited", () => {
  it("is the time from the request to the hand-over", async () => {
    const { limiter, clock } = open(ONE);
    const first = await limiter.acquire(gmail);
    const second = watch(limiter.acquire(gmail));
    clock.advance(300);
    const third = watch(limiter.acquire(gmail));
    clock.advance(200);
    first.release();
    clock.advance(50);
    await turn();
    expect(first.waited).toBe(0);
    expect(second.value?.waited).toBe(500);
    second.value?.release();
    await turn();
    expect(third.value?.waited).toBe(250);
  });
});

describe("lease.lost", () => {
  it("never aborts with local limits: not on update, close or release", async () => {
    const { limiter, clock } = open(TWO);
    const lease = await limiter.acquire(gmail);
    const { lost } = lease;
    expect(lost).toBeInstanceOf(AbortSignal);
    expect(lease.lost).toBe(lost);
    limiter.update(parsePolicy("max_outbound_connections = 0"));
    clock.advance(1e9);
    await limiter.close({ timeout: 0 });
    lease.release();
    await turn();
    expect(lost.aborted).toBe(false);
    expect(lease.lost.aborted).toBe(false);
  });
});
