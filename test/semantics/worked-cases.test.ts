// The table "Worked cases (from the manuals)" of the rules, row by row, by policy text: what explain() says and what opens.
import { describe, expect, test } from "vitest";
import type { LocalLimiter } from "../../src/index.js";
import { keysOf, limiterFor, limitsOf, openAll, placesOf, room } from "./asking.js";

const max = "max_outbound_connections";
const scopeMax = "scope_max_outbound_connections";

describe("Binding_Group and fallback (Configuration Scopes and Fallback, example 2.4)", () => {
  const limiter = limiterFor(`
    max_outbound_connections = 30

    binding_group "group1" {
      max_outbound_connections = 5

      binding "example" {
        bind_address = 10.10.10.10
        max_outbound_connections = 15

        domain "example.com" {
          #some other options
        }
      }
    }
  `);

  test("explain: example to example.com has max 15, the binding's", () => {
    const target = { binding: "example", domain: "example.com" };
    expect(placesOf(limiter, target, max)).toEqual(['binding_group "group1" › binding "example": 15']);
    expect(room(limiter, target)).toBe(15);
  });

  test("explain: another binding of group1 to example.com has max 5, the group's", () => {
    const target = { binding: "another", bindingGroup: "group1", domain: "example.com" };
    expect(placesOf(limiter, target, max)).toEqual(['binding_group "group1": 5']);
    expect(room(limiter, target)).toBe(5);
  });

  test("explain: a binding outside group1 to example.com has max 30, the global one", () => {
    const target = { binding: "outside", domain: "example.com" };
    expect(placesOf(limiter, target, max)).toEqual(["global: 30"]);
    expect(room(limiter, target)).toBe(30);
  });
});

describe("yahoofriends (max_outbound_connections)", () => {
  const limiter = limiterFor(`
    Binding "yahoofriends" {
      Domain "yahoo.com" {
        Max_Outbound_Connections = 30
      }
    }

    Domain "yahoo.com" {
      Max_Outbound_Connections = 10
    }
  `);

  test("explain: yahoofriends to yahoo.com has max 30", () => {
    const target = { binding: "yahoofriends", domain: "yahoo.com" };
    expect(limitsOf(limiter, target, max)).toEqual([30]);
    expect(room(limiter, target)).toBe(30);
  });

  test("tryAcquire: other bindings to yahoo.com get 10 per binding", () => {
    const other = { binding: "other", domain: "yahoo.com" };
    const third = { binding: "third", domain: "yahoo.com" };
    expect(limitsOf(limiter, other, max)).toEqual([10]);
    expect(room(limiter, other)).toBe(10);
    expect(room(limiter, other, third)).toBe(20);
    expect(keysOf(limiter, other, max)).not.toEqual(keysOf(limiter, third, max));
  });
});

describe("Regex Domains (domain)", () => {
  const limiter = limiterFor(`
    domain "example.com" {
      max_outbound_connections = 20
    }

    domain "/(?:^|[.])example[.](?:com|co[.]uk)$/" {
      max_outbound_connections = 15
      max_deliveries_per_connection = 5
    }
  `);

  test("explain: example.com has max 20, the literal stanza's", () => {
    expect(limitsOf(limiter, { domain: "example.com" }, max)).toEqual([20]);
    expect(room(limiter, { domain: "example.com" })).toBe(20);
  });

  test("tryAcquire: a.example.com and example.co.uk get 15 each, with counters of their own", () => {
    const below = { domain: "a.example.com" };
    const british = { domain: "example.co.uk" };
    expect(limitsOf(limiter, below, max)).toEqual([15]);
    expect(limitsOf(limiter, british, max)).toEqual([15]);
    expect(room(limiter, below)).toBe(15);
    expect(room(limiter, below, british)).toBe(30);
  });
});

test("explain: a declared host without the option makes no host claim (max_outbound_connections in the host scope)", () => {
  const limiter = limiterFor(`
    Max_Outbound_Connections = 32
    host "example.com" {}
  `);
  const target = { domain: "anything.example", host: "example.com" };
  expect(placesOf(limiter, target, max)).toEqual(["global: 32"]);
  // Ten domains through the host: ten times 32, so the host limits nothing.
  const many = Array.from({ length: 10 }, (_, index) => ({ domain: `d${index}.example`, host: "example.com" }));
  expect(room(limiter, ...many)).toBe(320);
});

test("tryAcquire: any two domains via aspmx.l.google.com from mycustomer get 32 together (host)", () => {
  const limiter = limiterFor(`
    binding "mycustomer" {
      host "aspmx.l.google.com" {
        max_outbound_connections = 32
      }
    }
  `);
  const via = (domain: string, binding = "mycustomer") => ({ binding, domain, host: "aspmx.l.google.com" });
  expect(placesOf(limiter, via("one.example"), max)).toEqual([
    'binding "mycustomer" › host "aspmx.l.google.com": 32',
    "default: 32",
  ]);
  expect(room(limiter, via("one.example"), via("two.example"))).toBe(32);
  // Another binding has no such stanza; another host is not that host.
  expect(room(limiter, via("one.example", "other"), via("two.example", "other"))).toBe(64);
  const elsewhere = { binding: "mycustomer", domain: "one.example", host: "alt1.aspmx.l.google.com" };
  expect(limitsOf(limiter, elsewhere, max)).toEqual([32]);
});

test("tryAcquire: wanadoo.fr and orange.fr over any bindings get 3 together (scope_max_outbound_connections)", () => {
  const limiter = limiterFor(String.raw`
    domain "/^(wanadoo|orange)\.fr$/" {
       scope_max_outbound_connections = 3
    }
  `);
  const targets = [
    { binding: "one", domain: "wanadoo.fr" },
    { binding: "two", domain: "orange.fr" },
    { binding: "three", domain: "wanadoo.fr" },
  ];
  for (const target of targets) {
    expect(placesOf(limiter, target, scopeMax)).toEqual([String.raw`domain "/^(wanadoo|orange)\.fr$/": 3`]);
    expect(room(limiter, target)).toBe(3);
  }
  expect(room(limiter, ...targets)).toBe(3);
  expect(limitsOf(limiter, { domain: "not-orange.fr" }, scopeMax)).toEqual([]);
});

describe("server_max = 100 and a reserve of 10 (server_reserve_outbound_connections)", () => {
  const policy = `
    server_max_outbound_connections = 100
    server_reserve_outbound_connections = 10
    max_outbound_connections = 1000
  `;
  const gmail = { domain: "gmail.com" };
  const small = (index: number) => ({ domain: `small${index}.example` });
  const withHundredOpen = () => {
    const limiter: LocalLimiter = limiterFor(policy);
    expect(openAll(limiter, [gmail])).toHaveLength(100);
    return limiter;
  };

  test("acquire: the 101st connection to gmail.com waits", async () => {
    const limiter = withHundredOpen();
    expect(limiter.explain(gmail).verdict).toBe("wait");
    expect(limiter.tryAcquire(gmail)).toBeUndefined();
    await expect(limiter.acquire(gmail, { timeout: 0 })).rejects.toMatchObject({ code: "ERR_LIMITER_TIMEOUT" });
  });

  test("acquire: a first connection to small.example is admitted, up to 110 in all", async () => {
    const limiter = withHundredOpen();
    expect(limiter.explain(small(0)).verdict).toBe("reserve");
    const first = await limiter.acquire(small(0), { timeout: 0 });
    expect(first.waited).toBe(0);
    // A second to the same domain is not a first one.
    expect(limiter.tryAcquire(small(0))).toBeUndefined();
    for (let index = 1; index < 10; index++) expect(limiter.tryAcquire(small(index))).toBeDefined();
    expect(limiter.snapshot()).toMatchObject({ leases: 110, reserve: { inUse: 10, limit: 10 } });
    expect(limiter.explain(small(10)).verdict).toBe("wait");
    expect(limiter.tryAcquire(small(10))).toBeUndefined();
  });

  test("acquire: the same domain from another binding is a first connection, too", () => {
    const limiter = withHundredOpen();
    expect(limiter.tryAcquire({ binding: "other", domain: "gmail.com" })).toBeDefined();
    expect(limiter.tryAcquire({ binding: "other", domain: "gmail.com" })).toBeUndefined();
  });
});
