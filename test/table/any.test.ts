// acquireAny: one lease for the first of several targets that has room.
import { describe, expect, it } from "vitest";
import type { AcquireTimeoutError } from "../../src/index.js";
import { open, turn, watch } from "./open.js";

const POLICY = `
max_outbound_connections = 1
host "mx1.example.com" { max_outbound_connections = 1 }
host "mx2.example.com" { max_outbound_connections = 1 }
`;
const host = (host: string, binding = "default") => ({ domain: "example.com", host, binding });
const MX = [host("mx1.example.com", "a"), host("mx2.example.com", "a")];

/** A policy under which hosts are all that matters. */
const HOSTS = `
server_reserve_outbound_connections = 0
host "mx1.example.com" { scope_max_outbound_connections = 1 }
host "mx2.example.com" { scope_max_outbound_connections = 1 }
`;

describe("acquireAny", () => {
  it("takes the first target that has room, in the order given", async () => {
    const { limiter } = open(HOSTS);
    const [first, second] = [await limiter.acquireAny(MX), await limiter.acquireAny(MX)];
    expect([first.target, second.target]).toEqual(MX);
  });

  it("waits for whichever comes first, and takes one slot", async () => {
    const { limiter } = open(HOSTS);
    const [first, second] = [await limiter.acquireAny(MX), await limiter.acquireAny(MX)];
    const third = watch(limiter.acquireAny(MX));
    expect(limiter.snapshot().waiting).toBe(1);
    second.release();
    await turn();
    expect(third.value?.target).toBe(MX[1]);
    expect(limiter.snapshot()).toMatchObject({ waiting: 0, leases: 2 });
    first.release();
    third.value?.release();
    expect(limiter.snapshot()).toMatchObject({ waiting: 0, leases: 0, counters: [] });
  });

  it("gives back what a second target was given in the same step", async () => {
    // One release makes room for both hosts at once.
    const { limiter } = open(`server_max_outbound_connections = 2\nserver_reserve_outbound_connections = 0`);
    const held = [await limiter.acquire({ domain: "a.example" }), await limiter.acquire({ domain: "b.example" })];
    const any = watch(limiter.acquireAny(MX));
    const other = watch(limiter.acquire({ domain: "c.example" }));
    limiter.update((await import("../../src/index.js")).parsePolicy("server_max_outbound_connections = 4"));
    await turn();
    expect([any.state, other.state]).toEqual(["resolved", "resolved"]);
    expect(limiter.snapshot()).toMatchObject({ waiting: 0, leases: 4 });
    for (const lease of [...held, any.value, other.value]) lease?.release();
    expect(limiter.snapshot().counters).toEqual([]);
  });

  it("gives back what a second target was given by the same release", async () => {
    const { limiter } = open(`
      server_reserve_outbound_connections = 0
      domain "one.example" { scope_max_outbound_connections = 1 }
      host "mx.example" { scope_max_outbound_connections = 1 }
    `);
    const both = await limiter.acquire({ domain: "one.example", host: "mx.example" });
    const any = watch(limiter.acquireAny([{ domain: "one.example" }, { domain: "two.example", host: "mx.example" }]));
    const next = [
      watch(limiter.acquire({ domain: "one.example", host: "other.example" })),
      watch(limiter.acquire({ domain: "three.example", host: "mx.example" })),
    ];
    both.release();
    await turn();
    expect(any.state).toBe("resolved");
    // It took one of the two, and the other went to who waits for that.
    expect(next.map(({ state }) => state).toSorted()).toEqual(["pending", "resolved"]);
    expect(limiter.snapshot()).toMatchObject({ leases: 2, waiting: 1 });
  });

  it("leaves all queues when it is aborted, times out, or the limiter closes", async () => {
    const { clock, limiter } = open(HOSTS);
    const held = [await limiter.acquireAny(MX), await limiter.acquireAny(MX)];
    const gone = new AbortController();
    const aborted = watch(limiter.acquireAny(MX, { signal: gone.signal }));
    const late = watch(limiter.acquireAny(MX, { timeout: 1_000 }));
    const last = watch(limiter.acquireAny(MX));
    expect(limiter.snapshot().waiting).toBe(3);
    gone.abort("gone");
    clock.advance(1_000);
    await turn();
    expect(aborted.error).toBe("gone");
    expect(late.error).toMatchObject({ code: "ERR_LIMITER_TIMEOUT", target: MX[0] });
    expect(limiter.snapshot().waiting).toBe(1);
    const closing = limiter.close();
    await turn();
    expect(last.error).toMatchObject({ code: "ERR_LIMITER_CLOSED" });
    expect([aborted, late, last].map(({ settled }) => settled)).toEqual([1, 1, 1]);
    for (const lease of held) lease.release();
    await closing;
    expect(limiter.snapshot()).toMatchObject({ waiting: 0, leases: 0, counters: [] });
    expect(clock.armed).toBe(0);
  });

  it("says which limits were full for any of them when it gives up", async () => {
    const { limiter, clock } = open(HOSTS);
    for (const target of MX) await limiter.acquire(target);
    const late = watch(limiter.acquireAny([...MX, MX[0]!], { timeout: 1_000 }));
    clock.advance(1_000);
    await turn();
    const once = watch(limiter.acquireAny(MX, { timeout: 0 }));
    await turn();
    for (const { error } of [late, once]) {
      const { target, blockedBy } = error as AcquireTimeoutError;
      expect(target).toBe(MX[0]);
      expect(blockedBy.map(({ setAt }) => setAt?.scope)).toEqual(['host "mx1.example.com"', 'host "mx2.example.com"']);
    }
  });

  it("with timeout 0 tries all of them once", async () => {
    const { limiter } = open(HOSTS);
    await limiter.acquireAny(MX, { timeout: 0 });
    await limiter.acquireAny(MX, { timeout: 0 });
    await expect(limiter.acquireAny(MX, { timeout: 0 })).rejects.toMatchObject({ code: "ERR_LIMITER_TIMEOUT" });
  });

  it("refuses what is no list of targets, and counts nothing for a malformed one", async () => {
    const { limiter } = open(POLICY);
    await expect(limiter.acquireAny([])).rejects.toThrow(TypeError);
    await expect(limiter.acquireAny(undefined as never)).rejects.toThrow(TypeError);
    await expect(limiter.acquireAny([MX[0] as never, { domain: "" }])).rejects.toThrow(TypeError);
    expect(limiter.snapshot().counters).toEqual([]);
  });
});
