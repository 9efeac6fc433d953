// Each example of the Momentum manuals (versions 3 and 4) about these options, quoted as printed, and what the page says it
// does. A test's name carries the page's. Lines of the manual that are only `...` are left out: they stand for other text.
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createLimiter, loadPolicy, parsePolicy } from "../../src/index.js";
import { keysOf, limiterFor, limitsOf, placesOf, room } from "./asking.js";

const max = "max_outbound_connections";
const scopeMax = "scope_max_outbound_connections";
const serverMax = "server_max_outbound_connections";
const clusterMax = "cluster_max_outbound_connections";
const clusterScopeMax = "cluster_scope_max_outbound_connections";
const clusterServerMax = "cluster_server_max_outbound_connections";

describe("Configuration Scopes and Fallback (ecelerity.conf.fallback)", () => {
  test("explain: domain scope and fallback, example 15.1: 20 for example.com, the global 40 for the other two", () => {
    const limiter = limiterFor(`
max_outbound_connections = 40

domain "example.com" {
  max_outbound_connections = 20
}

domain "someotherexample.com" {
  max_resident_active_queue_size = 500
}
`);
    expect(placesOf(limiter, { domain: "example.com" }, max)).toEqual(['domain "example.com": 20']);
    expect(placesOf(limiter, { domain: "someotherexample.com" }, max)).toEqual(["global: 40"]);
    expect(placesOf(limiter, { domain: "any.other" }, max)).toEqual(["global: 40"]);
  });

  describe("binding scope and fallback, example 15.2, with max_outbound_connections in place of message_expiration", () => {
    const limiter = limiterFor(
      `
message_expiration = 86400

binding "example" {
  message_expiration = 3600
}

domain "example.com" {
  message_expiration = 120
}

binding "example2" {
  message_expiration = 7200

  domain example.com {
    message_expiration = 86400
  }

  domain "anotherexample.com" {
    max_resident_active_queue_size = 500
  }
}

binding "example3" {

  domain "example.com" {
    max_resident_active_queue_size = 500
  }

  domain "anotherexample.com" {
    message_expiration = 86400
  }
}
`.replaceAll("message_expiration", max),
    );

    test.each([
      ["example", "example.com", 3600, 'binding "example"'],
      ["example", "any.other", 3600, 'binding "example"'],
      ["example2", "example.com", 86400, 'binding "example2" › domain "example.com"'],
      ["example2", "anotherexample.com", 7200, 'binding "example2"'],
      ["example2", "any.other", 7200, 'binding "example2"'],
      ["example3", "anotherexample.com", 86400, 'binding "example3" › domain "anotherexample.com"'],
      ["example3", "example.com", 120, 'domain "example.com"'],
      ["example3", "any.other", 86400, "global"],
      ["another", "example.com", 120, 'domain "example.com"'],
      ["another", "any.other", 86400, "global"],
    ])("explain: %s to %s has %i", (binding, domain, limit, scope) => {
      expect(placesOf(limiter, { binding, domain }, max)).toEqual([`${scope}: ${limit}`]);
    });
  });

  describe("Binding_Group and fallback, example 15.3", () => {
    const example = `
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
`;
    const target = { binding: "example", domain: "example.com" };

    test("explain: `config eval binding_group group1 binding example domain example.com` says 15", () => {
      expect(limitsOf(limiterFor(example), target, max)).toEqual([15]);
      expect(limitsOf(limiterFor(example), { ...target, bindingGroup: "group1" }, max)).toEqual([15]);
    });

    test("explain: if you remove max_outbound_connections from the binding, the value becomes 5", () => {
      const limiter = limiterFor(example.replace("    max_outbound_connections = 15\n", ""));
      expect(placesOf(limiter, target, max)).toEqual(['binding_group "group1": 5']);
    });
  });

  test("explain: the order of decreasing precedence; each level answers once the ones above it are removed", () => {
    // In brackets the number of the level. The page's list leaves level 5, the group, out; its example 15.3 needs it.
    const levels = [
      `binding_group "g" { binding "b" { domain "d.example" { ${max} = 1 } } }`,
      `binding "b" { domain "d.example" { ${max} = 2 } }`,
      `binding_group "g" { domain "d.example" { ${max} = 3 } }`,
      `binding_group "g" { binding "b" { ${max} = 4 } }`,
      `binding_group "g" { ${max} = 5 }`,
      `domain "d.example" { ${max} = 6 }`,
      `${max} = 7`,
    ];
    for (let level = 0; level <= levels.length; level++) {
      const text = [...levels.slice(level), 'binding_group "g" { binding "b" {} }'].join("\n");
      const expected = level === levels.length ? 32 : level + 1;
      expect(limitsOf(limiterFor(text), { binding: "b", domain: "d.example" }, max)).toEqual([expected]);
    }
  });
});

describe("max_outbound_connections", () => {
  test("explain: the default value is 32, for each domain", () => {
    const limiter = limiterFor("");
    expect(placesOf(limiter, { domain: "example.com" }, max)).toEqual(["default: 32"]);
    expect(room(limiter, { domain: "example.com" })).toBe(32);
    expect(room(limiter, { domain: "example.com" }, { domain: "example.net" })).toBe(64);
  });

  test("explain: Max_Outbound_Connections = 32, the synopsis", () => {
    expect(placesOf(limiterFor("Max_Outbound_Connections = 32"), { domain: "d.example" }, max)).toEqual(["global: 32"]);
  });

  // `dkim = "enabled"` in the manual of version 3, `opendkim_sign = "true"` in version 4.
  test.each(['dkim = "enabled"', 'opendkim_sign = "true"'])("explain: usage example with %s: 15, 5 and 30", (line) => {
    const limiter = limiterFor(`
Max_Outbound_Connections = 30

Domain "example.com" {
  ${line}
}

Binding_Group "group1" {

  Max_Outbound_Connections = 5

  Binding "example" {

    Bind_Address = "10.10.10.10"
    Max_Outbound_Connections = 15

    Domain "example.com" {
      #some other options
    }
  }

}
`);
    expect(limitsOf(limiter, { binding: "example", domain: "example.com" }, max)).toEqual([15]);
    expect(limitsOf(limiter, { binding: "b2", bindingGroup: "group1", domain: "example.com" }, max)).toEqual([5]);
    expect(limitsOf(limiter, { binding: "b3", domain: "example.com" }, max)).toEqual([30]);
  });

  test("tryAcquire: yahoofriends uses 30 connections to yahoo.com, other bindings 10 each", () => {
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
    expect(room(limiter, { binding: "yahoofriends", domain: "yahoo.com" })).toBe(30);
    expect(room(limiter, { binding: "other1", domain: "yahoo.com" }, { binding: "other2", domain: "yahoo.com" })).toBe(
      20,
    );
    // "and connections to domains other than yahoo.com are unrestricted", says the page; its own default value is 32.
    expect(limitsOf(limiter, { binding: "other1", domain: "example.com" }, max)).toEqual([32]);
  });

  test("explain: in the host scope the value is -1, not the fallback value of an encompassing scope", () => {
    const limiter = limiterFor(`
Max_Outbound_Connections = 32
host "example.com" {}
`);
    const target = { domain: "example.net", host: "example.com" };
    expect(placesOf(limiter, target, max)).toEqual(["global: 32"]);
    expect(limiter.explain(target).limits.some((limit) => limit.setAt?.scope.includes("host"))).toBe(false);
  });

  test("explain: a setting of -1 means that unlimited connections are allowed", () => {
    const limiter = limiterFor(`max_outbound_connections = -1`);
    expect(limitsOf(limiter, { domain: "example.com" }, max)).toEqual([]);
    expect(limiter.explain({ domain: "example.com" }).verdict).toBe("go");
  });
});

describe("scope_max_outbound_connections", () => {
  test("explain: in the global scope it behaves like server_max_outbound_connections", () => {
    const limiter = limiterFor("scope_max_outbound_connections = 20\nserver_reserve_outbound_connections = 0");
    const targets = Array.from({ length: 5 }, (_, index) => ({ binding: `b${index}`, domain: `d${index}.example` }));
    expect(room(limiter, ...targets)).toBe(20);
  });

  test("tryAcquire: in a Global::Domain scope it is the maximum to the domain across all bindings", () => {
    const limiter = limiterFor(`domain "d.example" { scope_max_outbound_connections = 20 }`);
    const from = (binding: string) => ({ binding, domain: "d.example" });
    expect(room(limiter, from("one"), from("two"), from("three"))).toBe(20);
  });

  test("tryAcquire: in a Binding_Group::Domain scope it is the maximum across all the bindings in that group", () => {
    const limiter = limiterFor(`
      binding_group "g" { domain "d.example" { scope_max_outbound_connections = 20 } binding "one" {} binding "two" {} }
    `);
    const from = (binding: string) => ({ binding, domain: "d.example" });
    expect(room(limiter, from("one"), from("two"))).toBe(20);
    expect(room(limiter, from("one"), from("outside"))).toBe(20 + 32);
  });

  test("explain: in a Binding::Domain scope it behaves like max_outbound_connections", () => {
    const limiter = limiterFor(`binding "b" { domain "d.example" { scope_max_outbound_connections = 50 } }`);
    expect(room(limiter, { binding: "b", domain: "d.example" })).toBe(50);
    expect(limitsOf(limiter, { binding: "b", domain: "d.example" }, max)).toEqual([]);
  });

  test("tryAcquire: in a Global::Host scope it is the maximum to the host across all bindings", () => {
    const limiter = limiterFor(`host "mx.example" { scope_max_outbound_connections = 20 }`);
    const from = (binding: string, domain: string) => ({ binding, domain, host: "mx.example" });
    expect(room(limiter, from("one", "a.example"), from("two", "b.example"))).toBe(20);
  });

  test("tryAcquire: wanadoo.fr and orange.fr are considered as one", () => {
    const limiter = limiterFor(String.raw`
domain "/^(wanadoo|orange)\.fr$/" {
   Scope_Max_Outbound_Connections = 3
}
`);
    expect(room(limiter, { domain: "wanadoo.fr" }, { domain: "orange.fr" })).toBe(3);
    expect(keysOf(limiter, { domain: "wanadoo.fr" }, scopeMax)).toEqual(
      keysOf(limiter, { domain: "orange.fr" }, scopeMax),
    );
  });

  test("tryAcquire: max_outbound_connections in a pattern is identical to literal stanzas: 5 for each domain", () => {
    const pattern = limiterFor(`
domain "/^(aol|yahoo).com$/" {
  max_outbound_connections = 5
}
`);
    const literal = limiterFor(`
domain "aol.com" {
  max_outbound_connections = 5
}

domain "yahoo.com" {
  max_outbound_connections = 5
}
`);
    for (const limiter of [pattern, literal]) {
      expect(limitsOf(limiter, { domain: "aol.com" }, max)).toEqual([5]);
      expect(limitsOf(limiter, { domain: "yahoo.com" }, max)).toEqual([5]);
      expect(room(limiter, { domain: "aol.com" })).toBe(5);
      expect(room(limiter, { domain: "aol.com" }, { domain: "yahoo.com" })).toBe(10);
    }
  });

  test("explain: it is disabled by default", () => {
    expect(limitsOf(limiterFor(""), { domain: "example.com", host: "mx.example" }, scopeMax)).toEqual([]);
  });
});

describe("server_max_outbound_connections", () => {
  test("explain: the default value is 75000", () => {
    expect(placesOf(limiterFor(""), { domain: "example.com" }, serverMax)).toEqual(["default: 75000"]);
  });

  test("explain: Server_Max_Outbound_Connections = 20000, the synopsis, irrespective of bindings", () => {
    const limiter = limiterFor("Server_Max_Outbound_Connections = 20000");
    const one = { binding: "one", domain: "one.example" };
    const two = { binding: "two", domain: "two.example" };
    expect(placesOf(limiter, one, serverMax)).toEqual(["global: 20000"]);
    expect(keysOf(limiter, one, serverMax)).toEqual(keysOf(limiter, two, serverMax));
  });

  test("tryAcquire: within a Binding stanza it regulates the total through that binding", () => {
    const limiter = limiterFor(`binding "b" { server_max_outbound_connections = 7 }`);
    const from = (binding: string) => [
      { binding, domain: "one.example" },
      { binding, domain: "two.example" },
    ];
    expect(room(limiter, ...from("b"))).toBe(7);
    expect(room(limiter, ...from("other"))).toBe(64);
  });
});

describe("server_reserve_outbound_connections", () => {
  test("snapshot: the default value is 200", () => {
    expect(limiterFor("").snapshot().reserve).toEqual({ inUse: 0, limit: 200 });
    expect(limiterFor("Server_Reserve_Outbound_Connections = 200").snapshot().reserve.limit).toBe(200);
  });

  test("tryAcquire: the sum of it and server_max is the ceiling on the total", () => {
    const limiter = limiterFor(`
      server_max_outbound_connections = 20
      server_reserve_outbound_connections = 5
    `);
    const targets = Array.from({ length: 50 }, (_, index) => ({ domain: `d${index}.example` }));
    expect(room(limiter, ...targets)).toBe(25);
  });
});

describe("cluster_max_outbound_connections, held for one process", () => {
  test("explain: by default an unlimited number of connections is allowed", () => {
    expect(limitsOf(limiterFor(""), { domain: "example.com" }, clusterMax)).toEqual([]);
  });

  test("tryAcquire: Cluster_Max_Outbound_Connections = 128, the synopsis, enforces the limit on every domain", () => {
    const limiter = limiterFor("Cluster_Max_Outbound_Connections = 128\nmax_outbound_connections = -1");
    expect(placesOf(limiter, { domain: "one.example" }, clusterMax)).toEqual(["global: 128"]);
    expect(room(limiter, { domain: "one.example" })).toBe(128);
    expect(room(limiter, { domain: "one.example" }, { domain: "two.example" })).toBe(256);
  });

  test("explain: the global value can be overridden by setting it in a Binding stanza", () => {
    const limiter = limiterFor(`
      cluster_max_outbound_connections = 128
      binding "b" { cluster_max_outbound_connections = 64 }
    `);
    expect(limitsOf(limiter, { binding: "b", domain: "d.example" }, clusterMax)).toEqual([64]);
    expect(limitsOf(limiter, { binding: "other", domain: "d.example" }, clusterMax)).toEqual([128]);
  });

  test.each(["Cluster_Max_Outbound_Connections", "cluster_max_outbound_connections"])(
    "tryAcquire: Host edge.omniti.com { %s = 2 } limits connections to the particular MX",
    (option) => {
      const limiter = limiterFor(`
Host edge.omniti.com {
  ${option} = 2
}
`);
      const via = (domain: string) => ({ domain, host: "edge.omniti.com" });
      expect(placesOf(limiter, via("messagesystems.com"), clusterMax)).toEqual(['host "edge.omniti.com": 2']);
      expect(room(limiter, via("messagesystems.com"), via("other.example"))).toBe(2);
    },
  );

  test("explain: the order of decreasing precedence; each level answers once the ones above it are removed", () => {
    const levels = [
      `binding "b" { host "h.example" { ${clusterMax} = 1 } }`,
      `host "h.example" { ${clusterMax} = 2 }`,
      `binding "b" { domain "d.example" { ${clusterMax} = 3 } }`,
      `binding "b" { ${clusterMax} = 4 }`,
      `domain "d.example" { ${clusterMax} = 5 }`,
      `${clusterMax} = 6`,
    ];
    const target = { binding: "b", domain: "d.example", host: "h.example" };
    for (let level = 0; level <= levels.length; level++) {
      const expected = level === levels.length ? [] : [level + 1];
      expect(limitsOf(limiterFor(levels.slice(level).join("\n")), target, clusterMax)).toEqual(expected);
    }
  });

  test("parsePolicy: the option is not valid when defined in a binding contained within a binding_group", () => {
    const text = `binding_group "g" {\n  binding "b" {\n    cluster_max_outbound_connections = 3\n  }\n}\n`;
    expect(() => parsePolicy(text)).toThrow(
      expect.objectContaining({ issues: [expect.objectContaining({ rule: "wrong-scope", line: 3, column: 5 })] }),
    );
  });

  test("parsePolicy: the option is not valid in the binding_group scope", () => {
    expect(() => parsePolicy(`binding_group "g" { cluster_max_outbound_connections = 3 }`)).toThrow(
      expect.objectContaining({ issues: [expect.objectContaining({ rule: "wrong-scope", line: 1 })] }),
    );
  });
});

describe("cluster_scope_max_outbound_connections, held for one process", () => {
  test("explain: it is disabled by default", () => {
    expect(limitsOf(limiterFor(""), { domain: "example.com", host: "mx.example" }, clusterScopeMax)).toEqual([]);
  });

  test("tryAcquire: Cluster_Scope_Max_Outbound_Connections = 20, the synopsis, in the global scope", () => {
    const limiter = limiterFor("Cluster_Scope_Max_Outbound_Connections = 20");
    expect(room(limiter, { binding: "one", domain: "one.example" }, { binding: "two", domain: "two.example" })).toBe(
      20,
    );
  });

  test("tryAcquire: Global::Domain, Binding_Group::Domain, Binding::Domain and Global::Host as scope_max does", () => {
    const set = "{ cluster_scope_max_outbound_connections = 20 }";
    const from = (binding: string, domain = "d.example") => ({ binding, domain, host: "h.example" });
    const globalDomain = limiterFor(`domain "d.example" ${set}`);
    expect(room(globalDomain, from("one"), from("two"))).toBe(20);
    const groupDomain = limiterFor(`binding_group "g" { binding "one" {} binding "two" {} domain "d.example" ${set} }`);
    expect(room(groupDomain, from("one"), from("two"))).toBe(20);
    expect(room(groupDomain, from("one"), from("two"), from("outside"))).toBe(20 + 32);
    const bindingDomain = limiterFor(`binding "one" { domain "d.example" ${set} }`);
    expect(room(bindingDomain, from("one"), from("two"))).toBe(20 + 32);
    const globalHost = limiterFor(`host "h.example" ${set}`);
    expect(room(globalHost, from("one", "e.example"), from("two"))).toBe(20);
  });
});

describe("cluster_server_max_outbound_connections, held for one process", () => {
  test("explain: there is no limit enforced by default", () => {
    expect(limitsOf(limiterFor(""), { domain: "example.com" }, clusterServerMax)).toEqual([]);
  });

  test("tryAcquire: Cluster_Server_Max_Outbound_Connections = 800, the synopsis, irrespective of bindings", () => {
    const limiter = limiterFor("Cluster_Server_Max_Outbound_Connections = 800");
    const targets = Array.from({ length: 40 }, (_, index) => ({
      binding: `b${index % 3}`,
      domain: `d${index}.example`,
    }));
    expect(room(limiter, ...targets)).toBe(800);
  });

  test("tryAcquire: within a Binding stanza it regulates the total through that binding", () => {
    const limiter = limiterFor(`binding "b" { cluster_server_max_outbound_connections = 8 }`);
    const from = (binding: string) => [
      { binding, domain: "one.example" },
      { binding, domain: "two.example" },
    ];
    expect(room(limiter, ...from("b"))).toBe(8);
    expect(room(limiter, ...from("other"))).toBe(64);
  });
});

describe("domain", () => {
  test("explain: the stanza of the binding holds for the binding, the global one for the others", () => {
    const limiter = limiterFor(`
domain "example.com" {
  # domain-specific settings
  max_outbound_connections = 3
}

binding example {
  domain "example.com" {
    # domain-specific settings for the "example" binding
    max_outbound_connections = 4
  }
}
`);
    expect(limitsOf(limiter, { domain: "example.com" }, max)).toEqual([3]);
    expect(limitsOf(limiter, { binding: "example", domain: "example.com" }, max)).toEqual([4]);
  });

  test('explain: domain "192.0.43.10" { }', () => {
    expect(() => parsePolicy('domain "192.0.43.10" { }')).not.toThrow();
    const limiter = limiterFor('domain "192.0.43.10" {\n max_outbound_connections = 3\n}');
    expect(limitsOf(limiter, { domain: "192.0.43.10" }, max)).toEqual([3]);
    expect(limitsOf(limiter, { domain: "[192.0.43.10]" }, max)).toEqual([3]);
  });

  test('explain: domain "[IPv6:fd82:7796:815b:be0:222:19ff:fe52:3629]"', () => {
    const limiter = limiterFor(`
domain "[IPv6:fd82:7796:815b:be0:222:19ff:fe52:3629]" {
  # domain specific settings
  max_outbound_connections = 3
}
`);
    const asWritten = "[IPv6:fd82:7796:815b:be0:222:19ff:fe52:3629]";
    const inFull = "[ipv6:FD82:7796:815B:0BE0:0222:19FF:FE52:3629]";
    expect(limitsOf(limiter, { domain: asWritten }, max)).toEqual([3]);
    expect(limitsOf(limiter, { domain: inFull }, max)).toEqual([3]);
  });

  test("explain: Regex Domains: 20 for example.com, 15 for example.co.uk and any sub-domain", () => {
    const limiter = limiterFor(`
domain "example.com" {
  max_outbound_connections = 20
}

domain "/(?:^|[.])example[.](?:com|co[.]uk)$/" {
  max_outbound_connections = 15
  max_deliveries_per_connection = 5
}
`);
    expect(limitsOf(limiter, { domain: "example.com" }, max)).toEqual([20]);
    for (const domain of ["example.co.uk", "a.example.com", "a.b.example.co.uk"]) {
      expect(limitsOf(limiter, { domain }, max)).toEqual([15]);
    }
    for (const domain of ["badexample.com", "example.com.invalid", "example-com"]) {
      expect(limitsOf(limiter, { domain }, max)).toEqual([32]);
    }
  });

  test("explain: several regex domains are tried in the order that they were declared", () => {
    const forth = `domain "/example/" { max_outbound_connections = 1 }`;
    const back = `domain "/com$/" { max_outbound_connections = 2 }`;
    expect(limitsOf(limiterFor(forth + back), { domain: "example.com" }, max)).toEqual([1]);
    expect(limitsOf(limiterFor(back + forth), { domain: "example.com" }, max)).toEqual([2]);
  });

  test("explain: patterns without anchors match substrings", () => {
    const limiter = limiterFor(`domain "/good[.]example/" { max_outbound_connections = 1 }`);
    expect(limitsOf(limiter, { domain: "good.example.bad.invalid" }, max)).toEqual([1]);
    expect(limitsOf(limiter, { domain: "very-good.example" }, max)).toEqual([1]);
  });

  test("parsePolicy: domain is valid in the binding, binding_group, and global scopes", () => {
    expect(() => parsePolicy(`domain a {} binding b { domain a {} } binding_group g { domain a {} }`)).not.toThrow();
    expect(() => parsePolicy(`domain a { domain b {} }`)).toThrow(
      expect.objectContaining({ code: "ERR_LIMITER_POLICY" }),
    );
    expect(() => parsePolicy(`host a { domain b {} }`)).toThrow(
      expect.objectContaining({ code: "ERR_LIMITER_POLICY" }),
    );
  });
});

describe("host", () => {
  test("explain: the stanza of the binding holds for the binding, the global one for the others", () => {
    const limiter = limiterFor(`
host "smtp.example.com" {
  # host specific settings
  max_outbound_connections = 3
}

binding "example" {
  # binding specific settings
  host "smtp.example.com" {
    # host specific settings for this binding
    max_outbound_connections = 4
  }
}
`);
    const via = { domain: "example.com", host: "smtp.example.com" };
    expect(placesOf(limiter, via, max)).toEqual(["default: 32", 'host "smtp.example.com": 3']);
    expect(placesOf(limiter, { ...via, binding: "example" }, max)).toEqual([
      'binding "example" › host "smtp.example.com": 4',
      "default: 32",
    ]);
  });

  test("explain: Regex Host", () => {
    const limiter = limiterFor(`
host "/(?:^|[.])example[.](?:com|co[.]uk)$/" {
  max_outbound_connections = 15
}
`);
    const scope = 'host "/(?:^|[.])example[.](?:com|co[.]uk)$/"';
    for (const host of ["example.com", "mx1.example.com", "example.co.uk"]) {
      expect(placesOf(limiter, { domain: "d.example", host }, max)).toEqual(["default: 32", `${scope}: 15`]);
    }
    expect(placesOf(limiter, { domain: "d.example", host: "other.example" }, max)).toEqual(["default: 32"]);
    // By value: each host has its own counter.
    const via = (host: string, domain: string) => ({ host, domain });
    expect(room(limiter, via("mx1.example.com", "a"), via("mx2.example.com", "b"))).toBe(30);
  });

  test("tryAcquire: aspmx.l.google.com takes 32 from mycustomer, regardless of the domain", () => {
    const limiter = limiterFor(`
binding "mycustomer" {
  host "aspmx.l.google.com" {
    max_outbound_connections = 32
  }
}
`);
    const targets = Array.from({ length: 4 }, (_, index) => ({
      binding: "mycustomer",
      domain: `customer${index}.example`,
      host: "aspmx.l.google.com",
    }));
    expect(room(limiter, ...targets)).toBe(32);
  });

  test("parsePolicy: host is valid in the binding, binding_group and global scopes", () => {
    expect(() => parsePolicy(`host a {} binding b { host a {} } binding_group g { host a {} }`)).not.toThrow();
    expect(() => parsePolicy(`domain a { host b {} }`)).toThrow(
      expect.objectContaining({ code: "ERR_LIMITER_POLICY" }),
    );
  });
});

describe("binding", () => {
  test("parsePolicy: Binding my_binding, with options that are not ours", () => {
    const limiter = limiterFor(`
binding "my_binding" {
  bind_address = "208.77.188.166"
  generate_bounces = true
  ehlo_hostname = "my_name.com"
}
# my_binding-1 rules
binding "my_binding-1" {
  bind_address = "10.10.10.1"
  generate_bounces = true
  ehlo_hostname = "my_name-1.com"
}

# my_binding-2 rules
binding "my_binding-2" {
  bind_address = "10.10.10.2"
  generate_bounces = false
  ehlo_hostname = "my_name-2.com"
}
binding "default" {
  ehlo_hostname = "example.com"
}
`);
    expect(placesOf(limiter, { binding: "my_binding-1", domain: "d.example" }, max)).toEqual(["default: 32"]);
  });

  test("explain: names are case-sensitive", () => {
    const limiter = limiterFor(`binding "Example" { max_outbound_connections = 3 }`);
    expect(limitsOf(limiter, { binding: "Example", domain: "d.example" }, max)).toEqual([3]);
    expect(limitsOf(limiter, { binding: "example", domain: "d.example" }, max)).toEqual([32]);
  });

  test.each(["my binding", "my:binding"])(
    "parsePolicy: spaces and colons are not allowed in binding names: %s",
    (name) => {
      expect(() => parsePolicy(`binding "${name}" {}`)).toThrow(
        expect.objectContaining({ issues: [expect.objectContaining({ rule: "bad-name", line: 1 })] }),
      );
    },
  );

  test("explain: the default binding exists without being defined, and may be", () => {
    expect(limitsOf(limiterFor(""), { domain: "d.example" }, max)).toEqual([32]);
    const limiter = limiterFor(`binding "default" { max_outbound_connections = 3 }`);
    expect(limitsOf(limiter, { domain: "d.example" }, max)).toEqual([3]);
    expect(limitsOf(limiter, { binding: "default", domain: "d.example" }, max)).toEqual([3]);
    expect(limitsOf(limiter, { binding: "other", domain: "d.example" }, max)).toEqual([32]);
  });
});

describe("binding_group", () => {
  test("explain: Binding_Group within a Binding, as before version 2.2.1.26", () => {
    const limiter = limiterFor(`
binding "example" {
  binding_group = "group1"
  bind_address = "10.10.10.10"
  max_outbound_connections = 5
}
`);
    const target = { binding: "example", domain: "d.example" };
    expect(limitsOf(limiter, target, max)).toEqual([5]);
    expect(limitsOf(limiter, { ...target, bindingGroup: "group1" }, max)).toEqual([5]);
    expect(() => limiter.explain({ ...target, bindingGroup: "group2" })).toThrow(TypeError);
  });

  test("explain: group1 with two bindings", () => {
    const limiter = limiterFor(`
binding_group "group1" {
  max_outbound_connections = 5

  binding "example" {
    bind_address = "10.10.10.10"
  }

  binding "example2" {
    bind_address = "10.10.10.11"
  }
}
`);
    const from = (binding: string) => ({ binding, domain: "d.example" });
    expect(limitsOf(limiter, from("example"), max)).toEqual([5]);
    expect(limitsOf(limiter, from("example2"), max)).toEqual([5]);
    // By value: each binding has its own counter.
    expect(room(limiter, from("example"), from("example2"))).toBe(10);
  });

  test("explain: the same group specified multiple times", () => {
    const policy = parsePolicy(
      `
binding_group "group1" {
  max_outbound_connections = 5

  binding "example" {
    bind_address = "10.10.10.10"
  }
}
# Perhaps this piece is included from an auxillary configuration file
binding_group "group1" {
  binding "example2" {
    bind_address = "10.10.10.11"
  }
}
`,
      { unknown: "ignore" },
    );
    const limiter = createLimiter(policy);
    expect(limitsOf(limiter, { binding: "example", domain: "d.example" }, max)).toEqual([5]);
    expect(limitsOf(limiter, { binding: "example2", domain: "d.example" }, max)).toEqual([5]);
    expect(() => limiter.explain({ binding: "example2", bindingGroup: "default", domain: "d.example" })).toThrow(
      TypeError,
    );
  });

  test("explain: the default group exists without being defined, and may be", () => {
    const limiter = limiterFor(`
binding_group "default" {
  ehlo_hostname = "example.com"
  max_outbound_connections = 3
}
binding "outside" {}
binding_group "g" { binding "inside" {} }
`);
    expect(limitsOf(limiter, { domain: "d.example" }, max)).toEqual([3]);
    expect(limitsOf(limiter, { binding: "outside", domain: "d.example" }, max)).toEqual([3]);
    expect(limitsOf(limiter, { binding: "never-mentioned", domain: "d.example" }, max)).toEqual([3]);
    expect(limitsOf(limiter, { binding: "inside", domain: "d.example" }, max)).toEqual([32]);
  });

  test("explain: group names are case-sensitive", () => {
    const limiter = limiterFor(`binding_group "G" { max_outbound_connections = 3 }`);
    expect(limitsOf(limiter, { binding: "b", bindingGroup: "G", domain: "d.example" }, max)).toEqual([3]);
    expect(limitsOf(limiter, { binding: "b", bindingGroup: "g", domain: "d.example" }, max)).toEqual([32]);
  });

  test("parsePolicy: spaces are not allowed in group names", () => {
    expect(() => parsePolicy(`binding_group "my group" {}`)).toThrow(
      expect.objectContaining({ issues: [expect.objectContaining({ rule: "bad-name", line: 1 })] }),
    );
  });
});

describe("match_cache_size", () => {
  test("parsePolicy: the page's policy, with bare patterns right before the brace", () => {
    const page = String.raw`
Binding_Group group {
  Binding foo {
    Domain /yahoo\.co(m|\.uk)$/ {
    }
    Domain /google\.(com|es|ru)$/{
    }
  }
  Domain /yahoo\.co(m|\.uk)$/ {
  }
  Domain /google\.(com|es|ru)$/{
  }
}

Domain /yahoo\.co(m|\.uk)$/ {
}

Domain /google\.(com|es|ru)$/{
}
`;
    expect(parsePolicy(page).warnings).toEqual([]);
    // The same with a different limit in each stanza, to see that all six are there.
    let limit = 0;
    const limiter = limiterFor(page.replaceAll(/\{\n\s*\}/g, () => `{ max_outbound_connections = ${++limit} }`));
    expect(limit).toBe(6);
    const foo = (domain: string) => limitsOf(limiter, { binding: "foo", domain }, max);
    const group = (domain: string) => limitsOf(limiter, { binding: "b", bindingGroup: "group", domain }, max);
    const global = (domain: string) => limitsOf(limiter, { domain }, max);
    expect([foo("yahoo.com"), foo("google.ru")]).toEqual([[1], [2]]);
    expect([group("yahoo.co.uk"), group("mail.google.es")]).toEqual([[3], [4]]);
    expect([global("yahoo.com"), global("google.com"), global("example.com")]).toEqual([[5], [6], [32]]);
  });

  test("createLimiter: the size must not be 0", () => {
    expect(() => createLimiter(parsePolicy(""), { matchCacheSize: 0 })).toThrow(/matchCacheSize/);
    expect(() => createLimiter(parsePolicy(""), { matchCacheSize: 1 })).not.toThrow();
  });

  test("explain: a cache smaller than the number of names changes no answer", () => {
    const policy = parsePolicy(`
      domain "/^a/" { max_outbound_connections = 1 }
      domain "/^b/" { max_outbound_connections = 2 }
    `);
    const limiter = createLimiter(policy, { matchCacheSize: 1 });
    for (let turn = 0; turn < 50; turn++) {
      expect(limitsOf(limiter, { domain: `a${turn}.example` }, max)).toEqual([1]);
      expect(limitsOf(limiter, { domain: `b${turn}.example` }, max)).toEqual([2]);
      expect(limitsOf(limiter, { domain: "c.example" }, max)).toEqual([32]);
    }
  });
});

describe("Throttling and Traffic Shaping (outbound_mail.traffic.shaping)", () => {
  test("explain: customer-2 makes 20 connections to a given domain, 40 to example.com", () => {
    const limiter = limiterFor(`
# limit customer-1 to sending 60 messages every 3 seconds
binding "customer-1" {
  outbound_throttle_messages = "60/3"
}

# Customer-2 rules
binding "customer-2" {
  # make no more than 20 concurrent connections to a given domain
  max_outbound_connections = 20

  # make no more than 40 concurrent connections to example.com
  domain "example.com" {
    max_outbound_connections = 40
  }
}
`);
    expect(limitsOf(limiter, { binding: "customer-1", domain: "example.com" }, max)).toEqual([32]);
    expect(limitsOf(limiter, { binding: "customer-2", domain: "example.net" }, max)).toEqual([20]);
    expect(limitsOf(limiter, { binding: "customer-2", domain: "example.com" }, max)).toEqual([40]);
  });
});

describe("Comments, Whitespace and Includes (ecelerity.conf; Configuration Files)", () => {
  let folder = "";
  const write = async (name: string, text: string) => {
    const path = join(folder, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
    return path;
  };
  const loaded = async (path: string) => createLimiter(await loadPolicy(path, { unknown: "ignore" }));

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "outbound-limiter-manuals-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test("loadPolicy: include with an absolute path", async () => {
    const other = await write("absolute/other.conf", "max_outbound_connections = 3");
    const path = await write("absolute/ecelerity.conf", `include "${other}"`);
    expect(limitsOf(await loaded(path), { domain: "d.example" }, max)).toEqual([3]);
  });

  test("loadPolicy: the directory that holds the file being included from is checked", async () => {
    await write("nested/below/second.conf", "max_outbound_connections = 4");
    await write("nested/below/first.conf", 'include "second.conf"');
    const path = await write("nested/ecelerity.conf", 'include "below/first.conf"');
    expect(limitsOf(await loaded(path), { domain: "d.example" }, max)).toEqual([4]);
  });

  test("loadPolicy: a directory's files in alphabetical order, without hidden files and sub-directories", async () => {
    await write(
      "folder/config.d/b.conf",
      'max_outbound_connections = 2\ndomain "/b/" { max_outbound_connections = 22 }',
    );
    await write(
      "folder/config.d/a.conf",
      'max_outbound_connections = 1\ndomain "/a/" { max_outbound_connections = 11 }',
    );
    await write("folder/config.d/.hidden.conf", "max_outbound_connections = 3");
    await write("folder/config.d/sub/z.conf", "max_outbound_connections = 4");
    const path = await write("folder/ecelerity.conf", `include "${join(folder, "folder/config.d")}"`);
    const limiter = await loaded(path);
    // "an option set twice in one stanza: the later one wins"
    expect(limitsOf(limiter, { domain: "d.example" }, max)).toEqual([11]);
    expect(limitsOf(limiter, { domain: "b.invalid" }, max)).toEqual([11]);
    expect(limitsOf(limiter, { domain: "b.org" }, max)).toEqual([22]);
    expect(limitsOf(limiter, { domain: "q.org" }, max)).toEqual([2]);
  });

  test("loadPolicy: readonly_include, and an include within a stanza: foo.conf, bar.conf, baz.conf", async () => {
    const path = await write("readonly/ecelerity.conf", 'readonly_include "foo.conf"\ninclude "baz.conf"\n');
    await write("readonly/foo.conf", 'Domain yahoo.com {\n  Gateway = "server.yahoo.com"\n  include "bar.conf"\n}\n');
    await write("readonly/bar.conf", "max_outbound_connections = 7");
    await write("readonly/baz.conf", "max_outbound_connections = 8");
    const limiter = await loaded(path);
    expect(placesOf(limiter, { domain: "yahoo.com" }, max)).toEqual(['domain "yahoo.com": 7']);
    expect(placesOf(limiter, { domain: "example.com" }, max)).toEqual(["global: 8"]);
  });

  test("parsePolicy: # and C-style comments, any white space, options in any case", () => {
    const limiter = limiterFor(`
      /* C-style comments begin with slash and asterisk, # and do not nest: /* */
      MAX_Outbound_Connections=3 # to the end of the line }
      Domain
        "d.example"{Max_outbound_connections
          =
          4}
    `);
    expect(limitsOf(limiter, { domain: "e.example" }, max)).toEqual([3]);
    expect(limitsOf(limiter, { domain: "d.example" }, max)).toEqual([4]);
  });

  test("parsePolicy: listeners, thread pools and other stanzas of an ecelerity.conf are skipped when asked to ignore", () => {
    const limiter = limiterFor(`
ESMTP_Listener {
  Listen ":25" {
      TCP_Recv_Buffer_Size = 4096
      Disable_Nagle_Algorithm = false
  }
  Listen ":587" {
      Enable = "false"
      # otherwise you get a warning and use the IO pool instead
      Pool_Name = "accept-pool"
  }
  #Listen "[::1]:25" {}
}
ThreadPool accept-pool {
  Concurrency = 4
}
Control_Listener {
  Listen "/tmp/2025" {
    File_Mode = 0666
  }
}
adaptive_max_outbound_connections = ( 5 10 )
server_max_file_descriptors = 100000
cluster_outbound_throttle_connections = "10/1"
match_cache_size = 16384
max_outbound_connections = 3
`);
    expect(limitsOf(limiter, { domain: "d.example" }, max)).toEqual([3]);
  });
});
