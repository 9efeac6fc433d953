// server_reserve_outbound_connections: a way in past the server-wide ceiling, for those who have nothing open.
import { describe, expect, it } from "vitest";
import { type Lease, parsePolicy, type Target } from "../../src/index.js";
import { NOTHING, type Opened, open, turn, watch } from "./open.js";

const to = (domain: string, binding = "mta-1"): Target => ({ binding, domain });
const gmail = to("gmail.com");
const small = to("small.example");

function policy(server: number, reserve: number, rest = ""): string {
  return [
    `server_max_outbound_connections = ${String(server)}`,
    `server_reserve_outbound_connections = ${String(reserve)}`,
    "max_outbound_connections = -1",
    rest,
  ].join("\n");
}

/** A limiter with that many connections to gmail.com open. */
function busy(text: string, connections: number): Opened & { readonly held: readonly Lease[] } {
  const opened = open(text);
  const held = Array.from({ length: connections }, () => opened.limiter.tryAcquire(gmail));
  return { ...opened, held: held.filter((lease) => lease !== undefined) };
}

describe("the reserve", () => {
  it("admits the first to small.example when 100 to gmail.com fill the server, up to 110 in all", () => {
    const { limiter, held } = busy(policy(100, 10), 101);
    expect(held).toHaveLength(100);
    expect(limiter.explain(gmail).verdict).toBe("wait");
    expect(limiter.snapshot().reserve).toEqual({ inUse: 0, limit: 10 });

    expect(limiter.explain(small).verdict).toBe("reserve");
    expect(limiter.tryAcquire(small)).toBeDefined();
    expect(limiter.snapshot().reserve).toEqual({ inUse: 1, limit: 10 });
    for (let i = 2; i <= 10; i++) expect(limiter.tryAcquire(to(`small-${String(i)}.example`))).toBeDefined();
    expect(limiter.snapshot()).toMatchObject({ leases: 110, reserve: { inUse: 10, limit: 10 } });

    expect(limiter.explain(to("one-more.example")).verdict).toBe("wait");
    expect(limiter.tryAcquire(to("one-more.example"))).toBeUndefined();
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
  });

  it("is not used below the ceiling", () => {
    const { limiter } = busy(policy(3, 2), 2);
    expect(limiter.explain(small).verdict).toBe("go");
    expect(limiter.tryAcquire(small)).toBeDefined();
    expect(limiter.snapshot().reserve.inUse).toBe(0);
  });

  it("admits one at a time to a domain", () => {
    const { limiter } = busy(policy(2, 5), 2);
    const first = limiter.tryAcquire(small);
    expect(first).toBeDefined();
    expect(limiter.tryAcquire(small)).toBeUndefined();
    first?.release();
    expect(limiter.explain(small).verdict).toBe("reserve");
  });

  it("counts an ordinary connection of the pair as open", () => {
    const { limiter } = open(policy(2, 5));
    limiter.tryAcquire(small);
    limiter.tryAcquire(gmail);
    expect(limiter.explain(small).verdict).toBe("wait");
  });

  it("looks at the pair of binding and domain: another binding is another pair", () => {
    const { limiter } = busy(policy(2, 5), 2);
    expect(limiter.explain(to("gmail.com", "mta-2")).verdict).toBe("reserve");
    expect(limiter.tryAcquire(to("gmail.com", "mta-2"))).toBeDefined();
    expect(limiter.tryAcquire(to("gmail.com", "mta-2"))).toBeUndefined();
  });

  it("looks at the pair of binding and domain: another host of the domain is the same pair", () => {
    const { limiter } = busy(policy(2, 5), 2);
    expect(limiter.tryAcquire({ ...gmail, host: "mx1.example" })).toBeUndefined();
    expect(limiter.tryAcquire({ ...small, host: "mx1.example" })).toBeDefined();
    expect(limiter.tryAcquire({ ...small, host: "mx2.example" })).toBeUndefined();
    expect(limiter.tryAcquire(small)).toBeUndefined();
  });

  it("looks at the pair however its name is written", () => {
    const { limiter } = busy(policy(2, 5), 2);
    expect(limiter.tryAcquire(to("GMAIL.com."))).toBeUndefined();
  });

  it.each([
    ["a domain, by value", 'domain "small.example" { max_outbound_connections = 1 }', to("small.example")],
    [
      "a domain, by reference",
      'domain "small.example" { scope_max_outbound_connections = 1 }',
      to("small.example", "mta-2"),
    ],
    ["a host, by value", 'host "mx" { max_outbound_connections = 1 }', { ...to("third.example"), host: "mx" }],
    [
      "a host, by reference",
      'host "mx" { scope_max_outbound_connections = 1 }',
      { ...to("third.example", "mta-2"), host: "mx" },
    ],
    ["a binding", 'binding "mta-1" { server_max_outbound_connections = 1 }', to("third.example")],
    ["a binding, by reference", 'binding "mta-1" { scope_max_outbound_connections = 1 }', to("third.example")],
    ["a group", 'binding_group "g" { scope_max_outbound_connections = 1\nbinding "mta-1" { } }', to("third.example")],
    [
      "each of a group",
      'binding_group "g" { server_max_outbound_connections = 1\nbinding "mta-1" { } }',
      to("third.example"),
    ],
    ["the cluster", "cluster_server_max_outbound_connections = 2", to("third.example")],
    ["the cluster, by reference", "cluster_scope_max_outbound_connections = 2", to("third.example")],
  ])("never lifts a limit of %s", (_, limit, target) => {
    const { limiter } = open(policy(2, 5, limit));
    expect(limiter.tryAcquire(to("gmail.com", "mta-3"))).toBeDefined();
    expect(limiter.tryAcquire({ ...small, host: "mx" })).toBeDefined();
    expect(limiter.explain(target).verdict).toBe("wait");
    expect(limiter.tryAcquire(target)).toBeUndefined();
    // Only that limit is in the way: somebody it does not touch is let in, unless it is everybody's.
    if (!limit.startsWith("cluster")) {
      expect(limiter.explain({ ...to("fourth.example", "mta-4") }).verdict).toBe("reserve");
    }
  });

  it("lifts the global scope_max as it does server_max", () => {
    const text = "scope_max_outbound_connections = 2\nserver_reserve_outbound_connections = 1";
    const { limiter } = busy(text, 3);
    expect(limiter.snapshot().leases).toBe(2);
    expect(limiter.explain(small).verdict).toBe("reserve");
    expect(limiter.tryAcquire(small)).toBeDefined();
    expect(limiter.explain(to("third.example")).verdict).toBe("wait");
    expect(limiter.snapshot().reserve).toEqual({ inUse: 1, limit: 1 });
  });

  it("lifts both, and each only by its size", () => {
    const { limiter } = busy(policy(3, 2, "scope_max_outbound_connections = 2"), 3);
    expect(limiter.snapshot().leases).toBe(2);
    for (const name of ["a", "b"]) expect(limiter.tryAcquire(to(`${name}.example`))).toBeDefined();
    expect(limiter.tryAcquire(to("c.example"))).toBeUndefined();
    expect(limiter.snapshot()).toMatchObject({ leases: 4, reserve: { inUse: 2 } });
  });

  it("of 0 admits nobody past the ceiling", () => {
    const { limiter } = busy(policy(2, 0), 2);
    expect(limiter.explain(small).verdict).toBe("wait");
    expect(limiter.tryAcquire(small)).toBeUndefined();
    expect(limiter.snapshot().reserve).toEqual({ inUse: 0, limit: 0 });
  });

  it("is 200 when the policy does not say", () => {
    const { limiter } = busy("server_max_outbound_connections = 1", 1);
    expect(limiter.snapshot().reserve).toEqual({ inUse: 0, limit: 200 });
    for (let i = 0; i < 200; i++) expect(limiter.tryAcquire(to(`name-${String(i)}.example`))).toBeDefined();
    expect(limiter.tryAcquire(small)).toBeUndefined();
  });

  it("does not open a door that server_max = 0 has closed", async () => {
    const { limiter } = open(policy(0, 5));
    expect(limiter.tryAcquire(small)).toBeUndefined();
    expect(limiter.explain(small).verdict).toBe("wait");
    const waiting = watch(limiter.acquire(small));
    await turn();
    expect(waiting.state).toBe("pending");
  });

  it("is never needed without a ceiling", () => {
    const { limiter, held } = busy(policy(-1, 5), 300);
    expect(held).toHaveLength(300);
    expect(limiter.explain(small).verdict).toBe("go");
    expect(limiter.snapshot().reserve.inUse).toBe(0);
  });
});

describe("the reserve and the waiting line", () => {
  it("lets an arrival with nothing open past a line of those who have", async () => {
    const { limiter } = busy(policy(2, 2), 2);
    const flood = Array.from({ length: 5 }, () => watch(limiter.acquire(gmail)));
    const lease = await limiter.acquire(small);
    expect(lease.waited).toBe(0);
    expect(flood.every(({ state }) => state === "pending")).toBe(true);
  });

  it("keeps one whose domain is open waiting until the server has ordinary room again", async () => {
    const { limiter, held } = busy(policy(2, 2), 2);
    const waiting = watch(limiter.acquire(gmail));
    const others = ["a", "b"].map((name) => limiter.tryAcquire(to(`${name}.example`)));
    expect(limiter.snapshot()).toMatchObject({ leases: 4, reserve: { inUse: 2 } });
    others[0]?.release();
    others[1]?.release();
    await turn();
    expect(limiter.snapshot()).toMatchObject({ leases: 2, waiting: 1, reserve: { inUse: 0 } });
    expect(waiting.state).toBe("pending");
    held[0]?.release();
    await turn();
    expect(waiting.state).toBe("resolved");
    expect(limiter.snapshot().reserve.inUse).toBe(0);
  });

  it("admits the second to a domain when the first is released, though the server is full", async () => {
    const { limiter } = busy(policy(2, 2), 2);
    const first = limiter.tryAcquire(small);
    const second = watch(limiter.acquire(small));
    const third = watch(limiter.acquire(small));
    await turn();
    expect(second.state).toBe("pending");
    first?.release();
    expect(limiter.snapshot()).toMatchObject({ leases: 3, waiting: 1, reserve: { inUse: 1 } });
    await turn();
    expect([second.state, third.state]).toEqual(["resolved", "pending"]);
  });

  it("admits the second to a domain when the last of its ordinary ones is released", async () => {
    const { limiter } = open(policy(3, 1));
    const ordinary = limiter.tryAcquire(small);
    limiter.tryAcquire(gmail);
    limiter.tryAcquire(gmail);
    // One past the ceiling; the reserve is full, too.
    expect(limiter.tryAcquire(to("a.example"))).toBeDefined();
    const second = watch(limiter.acquire(small));
    ordinary?.release();
    await turn();
    expect(second.state).toBe("resolved");
    expect(limiter.snapshot()).toMatchObject({ leases: 4, reserve: { inUse: 2, limit: 1 } });
  });

  it("admits one who waits for the reserve as soon as a place in it is free", async () => {
    const { limiter } = busy(policy(1, 1), 1);
    const reserved = limiter.tryAcquire(small);
    const waiting = watch(limiter.acquire(to("third.example")));
    const late = watch(limiter.acquire(to("fourth.example")));
    await turn();
    expect([waiting.state, late.state]).toEqual(["pending", "pending"]);
    reserved?.release();
    await turn();
    expect([waiting.state, late.state]).toEqual(["resolved", "pending"]);
    expect(limiter.snapshot()).toMatchObject({ leases: 2, reserve: { inUse: 1 } });
  });

  it("admits one who waits for another limit as soon as that has room", async () => {
    const { limiter } = open(policy(2, 2, 'domain "small.example" { scope_max_outbound_connections = 1 }'));
    const first = limiter.tryAcquire(to("small.example", "mta-2"));
    limiter.tryAcquire(gmail);
    limiter.tryAcquire(to("a.example"));
    const waiting = watch(limiter.acquire(small));
    await turn();
    expect(waiting.state).toBe("pending");
    first?.release();
    await turn();
    expect(waiting.state).toBe("resolved");
    expect(limiter.snapshot()).toMatchObject({ leases: 3, reserve: { inUse: 2 } });
  });

  it("takes the next pair when the one before it in the line has something open", async () => {
    const { limiter } = busy(policy(2, 1), 2);
    const reserved = limiter.tryAcquire(small);
    const flood = watch(limiter.acquire(gmail));
    const again = watch(limiter.acquire({ ...gmail, host: "mx" }));
    const third = watch(limiter.acquire(to("third.example")));
    reserved?.release();
    await turn();
    expect([flood.state, again.state, third.state]).toEqual(["pending", "pending", "resolved"]);
  });

  it("finds the only one it may admit in a long line of those it may not", async () => {
    const { limiter } = open(policy(300, 1));
    const names = Array.from({ length: 300 }, (_, i) => `name-${String(i)}.example`);
    const held = names.map((name) => limiter.tryAcquire(to(name)));
    const reserved = limiter.tryAcquire(small);
    const seconds = names.map((name) => watch(limiter.acquire(to(name))));
    const third = watch(limiter.acquire(to("third.example")));
    reserved?.release();
    expect(limiter.tryAcquire(to("fourth.example"))).toBeUndefined();
    await turn();
    await turn();
    expect(third.state).toBe("resolved");
    expect(limiter.snapshot()).toMatchObject({ leases: 301, waiting: 300, reserve: { inUse: 1 } });

    held[150]?.release();
    expect(limiter.tryAcquire(to("fourth.example"))).toBeUndefined();
    await turn();
    await turn();
    expect(seconds.map(({ state }) => state).indexOf("resolved")).toBe(150);
    expect(limiter.snapshot()).toMatchObject({ leases: 301, waiting: 299, reserve: { inUse: 2 } });
  });

  it("admits one of two hosts of a domain, not both", async () => {
    const { limiter } = busy(policy(1, 1), 1);
    const reserved = limiter.tryAcquire(small);
    const one = watch(limiter.acquire({ ...to("third.example"), host: "mx1" }));
    const two = watch(limiter.acquire({ ...to("third.example"), host: "mx2" }));
    limiter.update(parsePolicy(policy(1, 5)));
    await turn();
    expect([one.state, two.state].toSorted()).toEqual(["pending", "resolved"]);
    reserved?.release();
    await turn();
    expect([one.state, two.state].toSorted()).toEqual(["pending", "resolved"]);
    (one.value ?? two.value)?.release();
    await turn();
    expect([one.state, two.state]).toEqual(["resolved", "resolved"]);
  });

  it("gives a place back when its request is aborted in the same tick", async () => {
    const { limiter } = busy(policy(1, 1), 1);
    const reserved = limiter.tryAcquire(small);
    const controller = new AbortController();
    const aborted = watch(limiter.acquire(to("third.example"), { signal: controller.signal }));
    const next = watch(limiter.acquire(to("fourth.example")));
    reserved?.release();
    controller.abort();
    await turn();
    expect(aborted.settled).toBe(1);
    expect(next.state).toBe(aborted.state === "resolved" ? "pending" : "resolved");
    expect(limiter.snapshot()).toMatchObject({ leases: 2, reserve: { inUse: 1 } });
  });

  it("counts a lease as the reserve's for as long as it is held, whatever else is released", () => {
    const { limiter, held } = busy(policy(2, 2), 2);
    const reserved = limiter.tryAcquire(small);
    for (const lease of held) lease.release();
    expect(limiter.snapshot()).toMatchObject({ leases: 1, reserve: { inUse: 1 } });
    reserved?.release();
    expect(limiter.snapshot()).toMatchObject({ ...NOTHING, reserve: { inUse: 0 } });
  });

  it("follows the policy: more of it admits those who wait, less of it revokes nothing", async () => {
    const { limiter } = busy(policy(1, 0), 1);
    const waiting = watch(limiter.acquire(small));
    limiter.update(parsePolicy(policy(1, 1)));
    expect(limiter.snapshot()).toMatchObject({ leases: 2, waiting: 0, reserve: { inUse: 1, limit: 1 } });
    await turn();
    expect(waiting.state).toBe("resolved");
    limiter.update(parsePolicy(policy(1, 0)));
    expect(limiter.snapshot()).toMatchObject({ leases: 2, reserve: { limit: 0 } });
    waiting.value?.release();
    expect(limiter.tryAcquire(small)).toBeUndefined();
  });
});
