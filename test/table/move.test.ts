// lease.move: to another host or domain without giving up what both have in common.
import { describe, expect, it } from "vitest";
import { parsePolicy } from "../../src/index.js";
import { open, turn, watch } from "./open.js";

const POLICY = `
server_max_outbound_connections = 2
server_reserve_outbound_connections = 0
host "mx1.example.com" { scope_max_outbound_connections = 1 }
host "mx2.example.com" { scope_max_outbound_connections = 1 }
domain "full.example" { scope_max_outbound_connections = 0 }
`;
const MX1 = { domain: "example.com", host: "mx1.example.com" };
const MX2 = { domain: "example.com", host: "mx2.example.com" };

describe("lease.move", () => {
  it("takes what the other target needs, then gives back what only the first did", async () => {
    const { limiter } = open(POLICY);
    const lease = await limiter.acquire(MX1);
    const next = watch(limiter.acquire(MX1));
    await turn();
    expect(next.state).toBe("pending");
    expect(await lease.move(MX2)).toBe(true);
    expect(lease.target).toBe(MX2);
    expect([...limiter.leases()].map(({ target }) => target)).toContain(MX2);
    await turn();
    expect(next.state).toBe("resolved");
    lease.release();
    next.value?.release();
    expect(limiter.snapshot()).toMatchObject({ leases: 0, waiting: 0, counters: [] });
  });

  it("moves within a full limit that both are under", async () => {
    const { limiter } = open(POLICY);
    const lease = await limiter.acquire(MX1);
    await limiter.acquire({ domain: "other.example" });
    expect(limiter.explain({ domain: "third.example" }).verdict).toBe("wait");
    expect(await lease.move({ domain: "third.example" })).toBe(true);
    expect(limiter.snapshot().counters.find(({ key }) => key.startsWith("server_max"))?.inUse).toBe(2);
  });

  it("is refused where there is no room, and the lease stays what it was", async () => {
    const { limiter } = open(POLICY);
    const lease = await limiter.acquire(MX1);
    const before = limiter.snapshot();
    expect(await lease.move({ domain: "full.example" })).toBe(false);
    expect(limiter.snapshot()).toEqual(before);
    expect(lease.target).toBe(MX1);
  });

  it("does not overtake who waits for the other target", async () => {
    const { limiter } = open(POLICY);
    const [one, two] = [await limiter.acquire(MX1), await limiter.acquire(MX2)];
    const waiting = watch(limiter.acquire(MX2));
    two.release();
    await turn();
    expect(waiting.state).toBe("resolved");
    const second = watch(limiter.acquire(MX2));
    expect(await one.move(MX2)).toBe(false);
    waiting.value?.release();
    await turn();
    expect(second.state).toBe("resolved");
  });

  it("rejects a malformed target, and is false once released", async () => {
    const { limiter } = open(POLICY);
    const lease = await limiter.acquire(MX1);
    await expect(lease.move({ domain: "" })).rejects.toThrow(TypeError);
    lease.release();
    expect(await lease.move(MX2)).toBe(false);
    expect(limiter.snapshot().counters).toEqual([]);
  });

  it("keeps the count of the reserve right", async () => {
    const { limiter } = open(`server_max_outbound_connections = 1\nserver_reserve_outbound_connections = 2`);
    const first = await limiter.acquire({ domain: "a.example" });
    const second = await limiter.acquire({ domain: "b.example" });
    expect(limiter.snapshot().reserve.inUse).toBe(1);
    expect(await second.move({ domain: "c.example" })).toBe(true);
    expect(limiter.snapshot().reserve.inUse).toBe(1);
    second.release();
    expect(limiter.snapshot().reserve.inUse).toBe(0);
    first.release();
  });

  it("is resolved again with the lease when the policy changes", async () => {
    const { limiter } = open(POLICY);
    const lease = await limiter.acquire(MX1);
    await lease.move(MX2);
    limiter.update(parsePolicy(POLICY));
    const next = watch(limiter.acquire(MX2));
    const first = watch(limiter.acquire(MX1));
    await turn();
    expect([next.state, first.state]).toEqual(["pending", "resolved"]);
  });
});
