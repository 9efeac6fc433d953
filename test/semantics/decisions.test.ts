// Where the Momentum manual is silent or contradicts itself: each **decision** and each **difference** of the rules, one test.
import { describe, expect, test } from "vitest";
import { createLimiter, parsePolicy, type Target } from "../../src/index.js";
import { keysOf, limiterFor, limitsOf, openAll, placesOf, room, settled } from "./asking.js";

const max = "max_outbound_connections";
const scopeMax = "scope_max_outbound_connections";
const serverMax = "server_max_outbound_connections";
const reserve = "server_reserve_outbound_connections";
const clusterMax = "cluster_max_outbound_connections";
const clusterScopeMax = "cluster_scope_max_outbound_connections";
const clusterServerMax = "cluster_server_max_outbound_connections";

const to = (domain: string, binding = "b"): Target => ({ binding, domain });
const manyDomains = (count: number, binding?: string): Target[] =>
  Array.from({ length: count }, (_, index) => ({ binding, domain: `d${index}.example` }));

describe("decision: server_max in a binding_group, by value for each of its bindings (server_max_outbound_connections)", () => {
  test.each([serverMax, clusterServerMax] as const)(
    "tryAcquire: %s: each binding of the group has its own total",
    (option) => {
      const limiter = limiterFor(`binding_group "g" { ${option} = 4 binding "one" {} binding "two" {} }`);
      expect(placesOf(limiter, to("d.example", "one"), option)).toContain('binding_group "g": 4');
      expect(room(limiter, ...manyDomains(3, "one"))).toBe(4);
      expect(room(limiter, ...manyDomains(3, "one"), ...manyDomains(3, "two"))).toBe(8);
      expect(room(limiter, ...manyDomains(3, "outside"))).toBe(96);
    },
  );

  test("tryAcquire: a binding the policy never mentions has it, too, when the caller names the group", () => {
    const limiter = limiterFor(`binding_group "g" { ${serverMax} = 4 }`);
    const targets = manyDomains(3, "new").map((target) => ({ ...target, bindingGroup: "g" }));
    expect(room(limiter, ...targets)).toBe(4);
  });

  test("explain: the binding's own value goes before the group's; the server-wide limit holds as well", () => {
    const limiter = limiterFor(
      `${serverMax} = 9 binding_group "g" { ${serverMax} = 4 binding "one" { ${serverMax} = 2 } }`,
    );
    expect(placesOf(limiter, to("d.example", "one"), serverMax)).toEqual([
      'binding_group "g" › binding "one": 2',
      "global: 9",
    ]);
  });
});

describe("decision: 0 closes the door", () => {
  test.each<[string, string, Target]>([
    ["max at global", `${max} = 0`, to("d.example")],
    ["max at a domain", `domain "d.example" { ${max} = 0 }`, to("d.example")],
    ["max at a host", `host "h.example" { ${max} = 0 }`, { domain: "d.example", host: "h.example" }],
    ["scope_max at a domain", `domain "d.example" { ${scopeMax} = 0 }`, to("d.example")],
    ["scope_max at global", `${scopeMax} = 0`, to("d.example")],
    ["server_max at global", `${serverMax} = 0`, to("d.example")],
    ["server_max at a binding", `binding "b" { ${serverMax} = 0 }`, to("d.example")],
    ["cluster_max at global", `${clusterMax} = 0`, to("d.example")],
    ["cluster_scope_max at global", `${clusterScopeMax} = 0`, to("d.example")],
    ["cluster_server_max at global", `${clusterServerMax} = 0`, to("d.example")],
  ])("tryAcquire: nobody is admitted with %s = 0, until the limit is raised", async (_where, text, target) => {
    const limiter = limiterFor(text);
    expect(limiter.explain(target).verdict).toBe("wait");
    expect(limiter.tryAcquire(target)).toBeUndefined();
    let admitted = false;
    const waiting = limiter.acquire(target).then((lease) => {
      admitted = true;
      return lease;
    });
    await settled();
    expect(admitted).toBe(false);
    limiter.update(parsePolicy(text.replace("= 0", "= 1")));
    (await waiting).release();
    expect(limiter.tryAcquire(target)).toBeDefined();
  });

  test("tryAcquire: the reserve does not open a door of 0 (server_reserve_outbound_connections)", () => {
    for (const ceiling of [`${serverMax} = 0`, `${scopeMax} = 0`, `${serverMax} = 0 ${scopeMax} = 5`]) {
      const limiter = limiterFor(`${ceiling} ${reserve} = 10`);
      expect(limiter.explain(to("first.example")).verdict).toBe("wait");
      expect(limiter.tryAcquire(to("first.example"))).toBeUndefined();
    }
  });

  test("tryAcquire: for the reserve, 0 means no reserve", () => {
    const limiter = limiterFor(`${serverMax} = 3 ${reserve} = 0`);
    expect(room(limiter, ...manyDomains(10))).toBe(3);
    expect(limiter.snapshot().reserve).toEqual({ inUse: 0, limit: 0 });
  });
});

describe("decision: scope_max at a binding_group limits the connections of all its bindings (scope_max_outbound_connections)", () => {
  test.each([scopeMax, clusterScopeMax] as const)("tryAcquire: %s: one counter for the group", (option) => {
    const limiter = limiterFor(`binding_group "g" { ${option} = 5 binding "one" {} binding "two" {} }`);
    expect(room(limiter, ...manyDomains(3, "one"))).toBe(5);
    expect(room(limiter, ...manyDomains(3, "one"), ...manyDomains(3, "two"))).toBe(5);
    expect(keysOf(limiter, to("a.example", "one"), option)).toEqual(keysOf(limiter, to("b.example", "two"), option));
    expect(limitsOf(limiter, to("a.example", "outside"), option)).toEqual([]);
  });

  test("tryAcquire: the group default holds every binding without a group", () => {
    const limiter = limiterFor(`binding_group "default" { ${scopeMax} = 5 } binding_group "g" { binding "inside" {} }`);
    expect(room(limiter, ...manyDomains(2, "one"), ...manyDomains(2), ...manyDomains(2, "default"))).toBe(5);
    expect(room(limiter, to("d.example", "inside"))).toBe(32);
  });
});

describe("decision: scope_max at a binding limits all connections of that binding (scope_max_outbound_connections)", () => {
  test.each([scopeMax, clusterScopeMax] as const)("tryAcquire: %s: one counter for the binding", (option) => {
    for (const text of [`binding "b" { ${option} = 5 }`, `binding_group "g" { binding "b" { ${option} = 5 } }`]) {
      const limiter = limiterFor(text);
      expect(room(limiter, ...manyDomains(3, "b"))).toBe(5);
      expect(room(limiter, ...manyDomains(3, "other"))).toBe(96);
    }
  });

  test("explain: it stands in for nothing there: max and server_max hold as well", () => {
    const limiter = limiterFor(`binding_group "g" { ${serverMax} = 40 binding "b" { ${scopeMax} = 50 } }`);
    expect(limitsOf(limiter, to("d.example"), max)).toEqual([32]);
    expect(limitsOf(limiter, to("d.example"), serverMax)).toEqual([40, 75_000]);
    expect(limitsOf(limiter, to("d.example"), scopeMax)).toEqual([50]);
    expect(room(limiter, to("d.example"))).toBe(32);
    expect(room(limiter, ...manyDomains(3, "b"))).toBe(40);
  });
});

describe("decision: scope_max at a host within a group or a binding (scope_max_outbound_connections)", () => {
  const via = (binding: string, domain: string): Target => ({ binding, domain, host: "h.example" });

  test("tryAcquire: binding_group › host limits connections to the host within the group", () => {
    const limiter = limiterFor(`
      binding_group "g" { binding "one" {} binding "two" {} host "h.example" { ${scopeMax} = 5 } }
    `);
    expect(room(limiter, via("one", "a.example"), via("two", "b.example"))).toBe(5);
    expect(room(limiter, via("outside", "a.example"))).toBe(32);
    expect(placesOf(limiter, via("one", "a.example"), scopeMax)).toEqual(['binding_group "g" › host "h.example": 5']);
  });

  test("tryAcquire: binding › host limits connections to the host within the binding", () => {
    const limiter = limiterFor(`binding "one" { host "h.example" { ${scopeMax} = 5 } }`);
    expect(room(limiter, via("one", "a.example"), via("one", "b.example"))).toBe(5);
    expect(room(limiter, via("two", "a.example"), via("two", "b.example"))).toBe(64);
  });

  test("tryAcquire: binding_group › binding › host, too, and all of them hold at once", () => {
    const limiter = limiterFor(`
      host "h.example" { ${scopeMax} = 9 }
      binding_group "g" {
        binding "one" { host "h.example" { ${scopeMax} = 3 } }
        binding "two" {}
        host "h.example" { ${scopeMax} = 6 }
      }
    `);
    expect(limitsOf(limiter, via("one", "a.example"), scopeMax)).toEqual([3, 6, 9]);
    expect(room(limiter, via("one", "a.example"), via("one", "b.example"))).toBe(3);
    expect(room(limiter, via("one", "a.example"), via("two", "a.example"))).toBe(6);
    expect(room(limiter, via("one", "a.example"), via("two", "a.example"), via("outside", "a.example"))).toBe(9);
  });

  test("explain: without a host in the target, host stanzas make no claim", () => {
    const limiter = limiterFor(
      `host "h.example" { ${scopeMax} = 0 ${max} = 0 ${clusterMax} = 0 ${clusterScopeMax} = 0 }`,
    );
    expect(limiter.explain(to("h.example")).verdict).toBe("go");
  });
});

describe("decision: where scope_max behaves like X, it stands in for an inherited X (scope_max_outbound_connections)", () => {
  const target = to("d.example");

  test('explain: binding "b" { domain "d" { scope_max = 50 } } allows 50, not the default 32', () => {
    const limiter = limiterFor(`binding "b" { domain "d.example" { ${scopeMax} = 50 } }`);
    expect(limitsOf(limiter, target, max)).toEqual([]);
    expect(limitsOf(limiter, target, scopeMax)).toEqual([50]);
    expect(room(limiter, target)).toBe(50);
  });

  test.each([
    ["the global scope", `${max} = 7`, 7],
    ["a global domain", `domain "d.example" { ${max} = 7 }`, 32],
    ["a global pattern", `domain "/^d/" { ${max} = 7 }`, 32],
    ["the binding itself", `binding "b" { ${max} = 7 }`, 7],
  ])("explain: it stands in for a max inherited from %s, at that domain only", (_where, inherited, elsewhere) => {
    const limiter = limiterFor(`${inherited}\nbinding "b" { domain "d.example" { ${scopeMax} = 50 } }`);
    expect(limitsOf(limiter, target, max)).toEqual([]);
    expect(room(limiter, target)).toBe(50);
    expect(limitsOf(limiter, to("e.example"), max)).toEqual([elsewhere]);
  });

  test.each([
    ["the group's domain", `domain "d.example" { ${max} = 7 }`],
    ["the binding in the group", `binding "b" { ${max} = 7 }`],
    ["the group", `${max} = 7`],
  ])("explain: within a group it stands in for a max inherited from %s", (_where, inherited) => {
    const limiter = limiterFor(`
      binding_group "g" { ${inherited} binding "b" { domain "d.example" { ${scopeMax} = 50 } } }
    `);
    expect(limitsOf(limiter, target, max)).toEqual([]);
    expect(room(limiter, target)).toBe(50);
  });

  test("explain: a max written in the same stanza is enforced as well", () => {
    const limiter = limiterFor(`binding "b" { domain "d.example" { ${scopeMax} = 50 ${max} = 7 } }`);
    expect(limitsOf(limiter, target, max)).toEqual([7]);
    expect(limitsOf(limiter, target, scopeMax)).toEqual([50]);
    expect(room(limiter, target)).toBe(7);
  });

  test("explain: a max written in a more specific stanza is enforced as well", () => {
    const limiter = limiterFor(`
      binding "b" { domain "d.example" { ${scopeMax} = 50 } }
      binding_group "g" { binding "b" { domain "d.example" { ${max} = 7 } } }
    `);
    expect(placesOf(limiter, target, max)).toEqual(['binding_group "g" › binding "b" › domain "d.example": 7']);
    expect(limitsOf(limiter, target, scopeMax)).toEqual([50]);
  });

  test("explain: from the stanza inside the group it stands in for a max outside, at the same binding and domain", () => {
    const limiter = limiterFor(`
      binding "b" { domain "d.example" { ${max} = 7 } }
      binding_group "g" { binding "b" { domain "d.example" { ${scopeMax} = 50 } } }
    `);
    expect(limitsOf(limiter, target, max)).toEqual([]);
  });

  test("explain: in a pattern, below a literal max: the literal is more specific, both hold", () => {
    const limiter = limiterFor(`
      binding "b" { domain "d.example" { ${max} = 7 } domain "/^d/" { ${scopeMax} = 50 } }
    `);
    expect(limitsOf(limiter, target, max)).toEqual([7]);
    expect(limitsOf(limiter, target, scopeMax)).toEqual([50]);
  });

  test("explain: in a literal, above a pattern's max: it stands in for it", () => {
    const limiter = limiterFor(`
      binding "b" { domain "d.example" { ${scopeMax} = 50 } domain "/^d/" { ${max} = 7 } }
    `);
    expect(limitsOf(limiter, target, max)).toEqual([]);
    expect(limitsOf(limiter, to("d2.example"), max)).toEqual([7]);
  });

  test("tryAcquire: in a pattern of a binding it is one counter for all names it matches, and max is gone for each", () => {
    const limiter = limiterFor(`binding "b" { domain "/^(d|e)/" { ${scopeMax} = 50 } }`);
    expect(room(limiter, target)).toBe(50);
    expect(room(limiter, target, to("e.example"))).toBe(50);
  });

  test.each([
    ["global › domain", `domain "d.example" { ${scopeMax} = 50 }`],
    ["binding_group › domain", `binding_group "default" { domain "d.example" { ${scopeMax} = 50 } }`],
    ["binding_group", `binding_group "default" { ${scopeMax} = 50 }`],
    ["binding", `binding "b" { ${scopeMax} = 50 }`],
    ["global", `${scopeMax} = 50`],
  ])("explain: at %s it adds to max and stands in for none", (_where, text) => {
    const limiter = limiterFor(text);
    expect(limitsOf(limiter, target, max)).toEqual([32]);
    expect(limitsOf(limiter, target, scopeMax)).toEqual([50]);
    expect(room(limiter, target)).toBe(32);
  });

  test.each([
    ["host", `host "h.example" { ${scopeMax} = 50 }`],
    ["binding › host", `binding "b" { host "h.example" { ${scopeMax} = 50 } }`],
  ])("explain: at %s it adds to max and stands in for none", (_where, text) => {
    const limiter = limiterFor(`host "h.example" { ${max} = 7 }\n${text}`);
    expect(limitsOf(limiter, { ...target, host: "h.example" }, max)).toEqual([7, 32]);
    expect(limitsOf(limiter, { ...target, host: "h.example" }, scopeMax)).toEqual([50]);
  });

  test("explain: at global it stands in for the built-in server_max of 75000", () => {
    const limiter = limiterFor(`${scopeMax} = 100000`);
    expect(limitsOf(limiter, target, serverMax)).toEqual([]);
    expect(placesOf(limiter, target, scopeMax)).toEqual(["global: 100000"]);
  });

  test("explain: at global, a server_max in the same scope is enforced as well", () => {
    const limiter = limiterFor(`${scopeMax} = 100 ${serverMax} = 40 ${reserve} = 0 ${max} = -1`);
    expect(limitsOf(limiter, target, serverMax)).toEqual([40]);
    expect(limitsOf(limiter, target, scopeMax)).toEqual([100]);
    expect(room(limiter, target)).toBe(40);
  });

  test("explain: at global, a server_max of the binding, more specific, is enforced as well", () => {
    const limiter = limiterFor(`${scopeMax} = 100 binding "b" { ${serverMax} = 40 }`);
    expect(placesOf(limiter, target, serverMax)).toEqual(['binding "b": 40']);
    expect(limitsOf(limiter, target, scopeMax)).toEqual([100]);
  });

  test("tryAcquire: a global scope_max that stands in for server_max is lifted by the reserve like it", () => {
    const limiter = limiterFor(`${scopeMax} = 10 ${reserve} = 3`);
    expect(openAll(limiter, [to("d.example")])).toHaveLength(10);
    expect(openAll(limiter, manyDomains(20))).toHaveLength(3);
    expect(limiter.snapshot()).toMatchObject({ leases: 13, reserve: { inUse: 3, limit: 3 } });
  });

  describe("cluster_scope_max for cluster_max", () => {
    const viaHost: Target = { ...target, host: "h.example" };

    test.each([
      ["global", `${clusterMax} = 7`],
      ["domain", `domain "d.example" { ${clusterMax} = 7 }`],
      ["binding", `binding "b" { ${clusterMax} = 7 }`],
    ])("explain: at binding › domain it stands in for a cluster_max inherited from %s", (_where, inherited) => {
      const limiter = limiterFor(`${inherited}\nbinding "b" { domain "d.example" { ${clusterScopeMax} = 50 } }`);
      expect(limitsOf(limiter, target, clusterMax)).toEqual([]);
      expect(limitsOf(limiter, target, clusterScopeMax)).toEqual([50]);
      // Of the local max it says nothing.
      expect(limitsOf(limiter, target, max)).toEqual([32]);
    });

    test.each([
      ["the same stanza", `binding "b" { domain "d.example" { ${clusterMax} = 7 } }`],
      ["host, which is more specific", `host "h.example" { ${clusterMax} = 7 }`],
      ["binding › host, which is more specific", `binding "b" { host "h.example" { ${clusterMax} = 7 } }`],
    ])("explain: a cluster_max in %s is enforced as well", (_where, other) => {
      const limiter = limiterFor(`${other}\nbinding "b" { domain "d.example" { ${clusterScopeMax} = 50 } }`);
      expect(limitsOf(limiter, viaHost, clusterMax)).toEqual([7]);
      expect(limitsOf(limiter, viaHost, clusterScopeMax)).toEqual([50]);
    });

    test("explain: at binding_group › binding › domain it ranks just before binding › domain", () => {
      const inside = `binding_group "g" { binding "b" { domain "d.example" { ${clusterScopeMax} = 50 } } }`;
      const inherits = limiterFor(`${inside}\nbinding "b" { domain "d.example" { ${clusterMax} = 7 } }`);
      expect(limitsOf(inherits, target, clusterMax)).toEqual([]);
      const host = limiterFor(`${inside}\nhost "h.example" { ${clusterMax} = 7 }`);
      expect(limitsOf(host, viaHost, clusterMax)).toEqual([7]);
    });

    test("explain: scope_max and cluster_scope_max do not stand in for each other's", () => {
      const local = limiterFor(`${clusterMax} = 7 binding "b" { domain "d.example" { ${scopeMax} = 50 } }`);
      expect(limitsOf(local, target, clusterMax)).toEqual([7]);
      const global = limiterFor(`${clusterScopeMax} = 50`);
      expect(limitsOf(global, target, serverMax)).toEqual([75_000]);
    });
  });
});

describe("decision: the reserve is looked at on every acquire and every release (server_reserve_outbound_connections)", () => {
  test("acquire: one that arrives is admitted out of the reserve at once", async () => {
    const limiter = limiterFor(`${serverMax} = 2 ${reserve} = 1`);
    openAll(limiter, [to("full.example")]);
    const lease = await limiter.acquire(to("first.example"));
    expect(lease.waited).toBe(0);
    expect(limiter.snapshot().reserve).toEqual({ inUse: 1, limit: 1 });
  });

  test("release: a slot of the reserve given back goes to the next that waits for it", async () => {
    const limiter = limiterFor(`${serverMax} = 2 ${reserve} = 1`);
    openAll(limiter, [to("full.example")]);
    const first = limiter.tryAcquire(to("first.example"));
    const second = limiter.acquire(to("second.example"));
    await settled();
    expect(limiter.snapshot().waiting).toBe(1);
    first?.release();
    // In the same step: nobody can come between.
    expect(limiter.snapshot()).toMatchObject({ leases: 3, waiting: 0, reserve: { inUse: 1, limit: 1 } });
    await expect(second).resolves.toMatchObject({ target: to("second.example") });
  });

  test("release: a domain whose last connection is closed may use the reserve from that moment", async () => {
    const limiter = limiterFor(`${serverMax} = 1 ${reserve} = 1`);
    const ordinary = limiter.tryAcquire(to("a.example"));
    const reserved = limiter.tryAcquire(to("b.example"));
    expect(reserved).toBeDefined();
    const again = limiter.acquire(to("a.example"));
    await settled();
    expect(limiter.snapshot()).toMatchObject({ leases: 2, waiting: 1 });
    // One open (b), so server_max is full; but a has none open now, and 1 < 1 + 1.
    ordinary?.release();
    expect(limiter.snapshot()).toMatchObject({ leases: 2, waiting: 0 });
    (await again).release();
    reserved?.release();
    expect(limiter.snapshot()).toMatchObject({ leases: 0, waiting: 0, counters: [], reserve: { inUse: 0 } });
  });

  test("tryAcquire: the reserve lifts no limit of a domain, a host, a binding or a group", () => {
    const closed: [string, Target][] = [
      [`domain "first.example" { ${max} = 0 }`, to("first.example")],
      [`host "h.example" { ${max} = 0 }`, { domain: "first.example", host: "h.example" }],
      [`binding "b" { ${serverMax} = 2 }`, to("first.example")],
      [`binding_group "default" { ${serverMax} = 2 }`, to("first.example")],
      [`binding "b" { ${scopeMax} = 2 }`, to("first.example")],
      [`binding_group "default" { ${scopeMax} = 2 }`, to("first.example")],
      [`domain "/./" { ${scopeMax} = 2 }`, to("first.example")],
      [`${clusterServerMax} = 2`, to("first.example")],
      [`${clusterScopeMax} = 2`, to("first.example")],
    ];
    for (const [limit, first] of closed) {
      const limiter = limiterFor(`${limit} ${serverMax} = 2 ${reserve} = 10`);
      const full = openAll(limiter, [to("full.example")]);
      expect(full).toHaveLength(2);
      expect([limit, limiter.tryAcquire(first)]).toEqual([limit, undefined]);
      expect(limiter.explain(first).verdict).toBe("wait");
    }
  });

  test("tryAcquire: ordinary admission again as soon as open < server_max", () => {
    const limiter = limiterFor(`${serverMax} = 2 ${reserve} = 2`);
    const [one, two] = openAll(limiter, [to("a.example")]);
    const reserved = openAll(limiter, manyDomains(5));
    expect(reserved).toHaveLength(2);
    // Three open: no ordinary admission, and a.example has one open.
    one?.release();
    expect(limiter.tryAcquire(to("a.example"))).toBeUndefined();
    reserved[0]?.release();
    expect(limiter.tryAcquire(to("a.example"))).toBeUndefined();
    reserved[1]?.release();
    expect(limiter.explain(to("a.example")).verdict).toBe("go");
    expect(limiter.tryAcquire(to("a.example"))).toBeDefined();
    two?.release();
  });
});

describe("difference: scope_max at global › domain works together with a reserve (scope_max_outbound_connections, note)", () => {
  test("tryAcquire: scope_max is never exceeded, by the reserve either", () => {
    const limiter = limiterFor(String.raw`
      ${serverMax} = 4
      ${reserve} = 10
      domain "/^(wanadoo|orange)\.fr$/" { ${scopeMax} = 3 }
    `);
    const french = ["one", "two", "three", "four"].flatMap((from) => [to("wanadoo.fr", from), to("orange.fr", from)]);
    expect(openAll(limiter, french)).toHaveLength(3);
    expect(openAll(limiter, [to("gmail.com")])).toHaveLength(1);
    // The server is full; each of these (binding, domain) has nothing open, but the scope has its three.
    for (const target of [to("orange.fr", "five"), to("wanadoo.fr", "five")]) {
      expect(limiter.explain(target).verdict).toBe("wait");
      expect(limiter.tryAcquire(target)).toBeUndefined();
    }
    // A low-volume domain is not starved for that.
    expect(limiter.explain(to("small.example")).verdict).toBe("reserve");
    expect(limiter.tryAcquire(to("small.example"))).toBeDefined();
  });

  test("tryAcquire: within its scope_max, such a domain may use the reserve", () => {
    const limiter = limiterFor(`${serverMax} = 1 ${reserve} = 10 domain "d.example" { ${scopeMax} = 2 }`);
    expect(limiter.tryAcquire(to("other.example"))).toBeDefined();
    expect(limiter.tryAcquire(to("d.example", "one"))).toBeDefined();
    expect(limiter.tryAcquire(to("d.example", "two"))).toBeDefined();
    expect(limiter.tryAcquire(to("d.example", "three"))).toBeUndefined();
    expect(limitsOf(limiter, to("d.example"), scopeMax)).toEqual([2]);
  });
});

describe("rules the pages leave open, without the mark", () => {
  test("explain: a plain binding value beats a global domain value (Configuration Scopes and Fallback)", () => {
    const limiter = limiterFor(`domain "d.example" { ${max} = 6 } binding "b" { ${max} = 4 }`);
    expect(placesOf(limiter, to("d.example"), max)).toEqual(['binding "b": 4']);
  });

  test("explain: a group value beats a global domain value; the closing list leaves the group out", () => {
    const limiter = limiterFor(`domain "d.example" { ${max} = 6 } binding_group "g" { ${max} = 5 binding "b" {} }`);
    expect(placesOf(limiter, to("d.example"), max)).toEqual(['binding_group "g": 5']);
  });

  test("explain: a literal and a pattern stanza each contribute their own option (domain)", () => {
    const limiter = limiterFor(`
      domain "d.example" { ${max} = 4 }
      domain "/nothing/" { ${scopeMax} = 1 }
      domain "/^d/" { ${max} = 5 ${scopeMax} = 6 }
      domain "/./" { ${max} = 7 ${scopeMax} = 8 ${clusterMax} = 9 }
    `);
    expect(placesOf(limiter, to("d.example"), max)).toEqual(['domain "d.example": 4']);
    expect(placesOf(limiter, to("d.example"), scopeMax)).toEqual(['domain "/^d/": 6']);
    expect(placesOf(limiter, to("d.example"), clusterMax)).toEqual(['domain "/./": 9']);
  });

  test("explain: -1 is a value: the look-up stops at it", () => {
    const limiter = limiterFor(`${max} = 3 domain "d.example" { ${max} = -1 }`);
    expect(limitsOf(limiter, to("d.example"), max)).toEqual([]);
    const scoped = limiterFor(`domain "d.example" { ${scopeMax} = -1 } domain "/./" { ${scopeMax} = 1 }`);
    expect(limitsOf(scoped, to("d.example"), scopeMax)).toEqual([]);
    expect(limitsOf(scoped, to("e.example"), scopeMax)).toEqual([1]);
  });

  test('parsePolicy: "75" in quotes is a number, as Momentum\'s own console prints it', () => {
    expect(limitsOf(limiterFor(`${max} = "75"`), to("d.example"), max)).toEqual([75]);
    expect(limitsOf(limiterFor(`${max} = "-1"`), to("d.example"), max)).toEqual([]);
  });

  test.each(["-2", "1.5", "many", "1e3", '""', "0x10", "99999999999999999999", "( 1 2 )"])(
    "parsePolicy: %s is no value for a limit",
    (value) => {
      expect(() => parsePolicy(`${max} = ${value}`)).toThrow(
        expect.objectContaining({ issues: [expect.objectContaining({ rule: "bad-value", line: 1 })] }),
      );
    },
  );

  test.each([
    [`domain "d.example" { ${serverMax} = 1 }`],
    [`host "h.example" { ${serverMax} = 1 }`],
    [`domain "d.example" { ${clusterServerMax} = 1 }`],
    [`binding "b" { ${reserve} = 1 }`],
    [`binding_group "g" { ${reserve} = 1 }`],
    [`domain "d.example" { ${reserve} = 1 }`],
    [`binding_group "g" { ${clusterMax} = 1 }`],
    [`binding_group "g" { binding "b" { ${clusterMax} = 1 } }`],
  ])("parsePolicy: an option in a place where it is not valid is an error: %s", (text) => {
    expect(() => parsePolicy(text)).toThrow(
      expect.objectContaining({ issues: [expect.objectContaining({ rule: "wrong-scope", line: 1 })] }),
    );
  });

  test("parsePolicy: cluster_max where its look-up never looks is accepted with a warning (cluster_max_outbound_connections)", () => {
    for (const text of [
      `binding_group "g" {\n  domain "d.example" {\n    ${clusterMax} = 1\n  }\n}`,
      `binding_group "g" {\n  host "h.example" {\n    ${clusterMax} = 1\n  }\n}`,
      `binding_group "g" { binding "b" {\n  domain "d.example" {\n    ${clusterMax} = 1\n  }\n} }`,
    ]) {
      const policy = parsePolicy(text);
      expect(policy.warnings).toEqual([expect.objectContaining({ rule: "unreachable" })]);
      const limiter = createLimiter(policy);
      const target = { binding: "b", domain: "d.example", host: "h.example" };
      expect(limitsOf(limiter, target, clusterMax)).toEqual([]);
    }
  });

  test("parsePolicy: an option set twice in one stanza: the later one wins, with a warning that names both lines", () => {
    const policy = parsePolicy(`${max} = 3\n\n\n\n\n\n${max} = 4\n`);
    expect(policy.warnings).toHaveLength(1);
    const [warning] = policy.warnings;
    expect(warning).toMatchObject({ rule: "duplicate" });
    const words = `${warning?.line} ${warning?.message} ${warning?.help ?? ""}`;
    expect(words).toMatch(/\b1\b/);
    expect(words).toMatch(/\b7\b/);
    expect(limitsOf(createLimiter(policy), to("d.example"), max)).toEqual([4]);
  });

  test("parsePolicy: the same stanza written twice is merged", () => {
    const policy = parsePolicy(`
      binding "b" { domain "d.example" { ${max} = 3 } }
      domain "/^x/" { ${scopeMax} = 9 }
      binding "b" { domain "D.example." { ${clusterMax} = 4 } ${serverMax} = 5 }
      domain "/^x/" { ${max} = 8 }
    `);
    expect(policy.warnings).toEqual([]);
    const limiter = createLimiter(policy);
    expect(limitsOf(limiter, to("d.example"), max)).toEqual([3]);
    expect(limitsOf(limiter, to("d.example"), clusterMax)).toEqual([4]);
    expect(limitsOf(limiter, to("d.example"), serverMax)).toEqual([5, 75_000]);
    expect(limitsOf(limiter, to("x.example", "other"), max)).toEqual([8]);
    expect(limitsOf(limiter, to("x.example", "other"), scopeMax)).toEqual([9]);
  });

  test("tryAcquire: a binding written outside and inside its group is one binding; both stanzas make a scope_max claim", () => {
    const limiter = limiterFor(`
      binding "b" { ${scopeMax} = 6 ${max} = 30 domain "d.example" { ${scopeMax} = 5 } }
      binding_group "g" { binding "b" { ${scopeMax} = 7 ${max} = 20 } }
    `);
    expect(placesOf(limiter, to("e.example"), scopeMax)).toEqual([
      'binding "b": 6',
      'binding_group "g" › binding "b": 7',
    ]);
    expect(limitsOf(limiter, to("e.example"), max)).toEqual([20]);
    expect(limitsOf(limiter, to("d.example"), scopeMax)).toEqual([5, 6, 7]);
  });

  test("explain: host has no fallback to the domain's chain; the nearest host stanza that sets it wins (host)", () => {
    const target: Target = { binding: "b", domain: "d.example", host: "h.example" };
    const levels = [
      `binding_group "g" { binding "b" { host "h.example" { ${max} = 1 } } }`,
      `binding "b" { host "h.example" { ${max} = 2 } }`,
      `binding_group "g" { host "h.example" { ${max} = 3 } }`,
      `host "h.example" { ${max} = 4 }`,
    ];
    for (let level = 0; level <= levels.length; level++) {
      const text = [
        `${max} = 50 binding_group "g" { binding "b" { host "h.example" {} } }`,
        ...levels.slice(level),
      ].join("\n");
      expect(limitsOf(limiterFor(text), target, max)).toEqual(level === levels.length ? [50] : [level + 1, 50]);
    }
  });

  test("explain: a cluster_max from a host stanza counts per (binding, host), else per (binding, domain)", () => {
    const limiter = limiterFor(`${clusterMax} = 5 host "h.example" { ${clusterMax} = 2 }`);
    const via = (domain: string, binding = "b"): Target => ({ binding, domain, host: "h.example" });
    expect(room(limiter, via("d.example"), via("e.example"))).toBe(2);
    expect(room(limiter, via("d.example"), via("d.example", "c"))).toBe(4);
    expect(room(limiter, to("d.example"), to("e.example"))).toBe(10);
  });
});
