// Names of bindings, groups, domains and hosts: their normal form, which are refused, and that hostile ones do no harm.
/* oxlint-disable vitest/expect-expect, vitest/no-conditional-expect -- the functions named expect… assert; a name may be refused or answered */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, test } from "vitest";
import {
  createLimiter,
  definePolicy,
  type LimitOption,
  type LocalLimiter,
  type PolicyError,
  type PolicyInput,
  parsePolicy,
  type Target,
} from "../../src/index.js";
import { keysOf, limiterFor, limitsOf, placesOf, room } from "./asking.js";

const max = "max_outbound_connections";
const scopeMax = "scope_max_outbound_connections";

/** Whether the two domains are one: the same counters, and full for the one when full for the other. */
function expectSameDomain(one: string, other: string): void {
  const limiter = limiterFor(`${max} = 1`);
  expect(keysOf(limiter, { domain: other }, max)).toEqual(keysOf(limiter, { domain: one }, max));
  const lease = limiter.tryAcquire({ domain: one });
  expect(lease).toBeDefined();
  expect(limiter.tryAcquire({ domain: other })).toBeUndefined();
  lease?.release();
}
function expectDifferentDomains(one: string, other: string): void {
  const limiter = limiterFor(`${max} = 1`);
  expect(keysOf(limiter, { domain: other }, max)).not.toEqual(keysOf(limiter, { domain: one }, max));
  expect(room(limiter, { domain: one }, { domain: other })).toBe(2);
}
/** Whether a stanza for `written` holds for the target `asked`. */
function expectStanzaHolds(keyword: "domain" | "host", written: string, asked: string): void {
  const target: Target = keyword === "domain" ? { domain: asked } : { domain: "d.example", host: asked };
  const text = limiterFor(`${keyword} "${written}" { ${scopeMax} = 3 }`);
  expect(limitsOf(text, target, scopeMax)).toEqual([3]);
  const data = createLimiter(definePolicy({ [keyword]: { [written]: { [scopeMax]: 3 } } }));
  expect(limitsOf(data, target, scopeMax)).toEqual([3]);
}

function expectNothingCounted(limiter: LocalLimiter): void {
  expect(limiter.snapshot()).toMatchObject({ leases: 0, waiting: 0, counters: [], reserve: { inUse: 0 } });
}

/** Refused by every way to ask, and nothing is counted. */
async function expectRefused(limiter: LocalLimiter, target: unknown): Promise<void> {
  const malformed = target as Target;
  expect(() => limiter.explain(malformed)).toThrow(TypeError);
  expect(() => limiter.tryAcquire(malformed)).toThrow(TypeError);
  await expect((async () => limiter.acquire(malformed))()).rejects.toThrow(TypeError);
  await expect((async () => limiter.run(malformed, () => {}))()).rejects.toThrow(TypeError);
  expectNothingCounted(limiter);
}

describe("normal form of domains and hosts", () => {
  test.each([
    ["gmail.com", "GMAIL.COM"],
    ["gmail.com", "gmail.com."],
    ["gmail.com", "GMail.Com."],
    ["_dmarc.123.example", "_DMARC.123.example"],
    ["__proto__", "__PROTO__."],
    ["constructor", "Constructor"],
    ["bücher.example", "xn--bcher-kva.example"],
    ["BÜCHER.example.", "xn--bcher-kva.example"],
    ["bücher.example", "XN--BCHER-KVA.EXAMPLE"],
    // u and a combining diaeresis is the same name as ü.
    ["bu\u0308cher.example", "b\u00fccher.example"],
    ["例え.テスト", "xn--r8jz45g.xn--zckzah"],
    ["ESPAÑA.es", "xn--espaa-rta.es"],
    ["192.0.43.10", "[192.0.43.10]"],
    ["[IPv6:2001:db8::1]", "[IPv6:2001:DB8:0:0:0:0:0:1]"],
    ["[IPv6:2001:db8::1]", "[ipv6:2001:0db8:0000::0001]"],
    ["[IPv6:2001:db8::1]", "[IPV6:2001:db8:0:0::1]"],
    ["[IPv6:2001:db8::c000:201]", "[IPv6:2001:db8::192.0.2.1]"],
  ])("tryAcquire: %s is %s", (one, other) => {
    expectSameDomain(one, other);
    expectStanzaHolds("domain", one, other);
    expectStanzaHolds("domain", other, one);
  });

  test.each([
    ["mx.example.com", "MX.Example.com."],
    ["bücher.example", "xn--bcher-kva.example"],
    ["_mx.1.example", "_MX.1.example"],
  ])("explain: as hosts, too: %s is %s", (one, other) => {
    expectStanzaHolds("host", one, other);
    expectStanzaHolds("host", other, one);
    const limiter = limiterFor(`host "/./" { ${max} = 1 }`);
    const via = (host: string) => ({ domain: "d.example", host });
    expect(keysOf(limiter, via(one), max)).toEqual(keysOf(limiter, via(other), max));
  });

  test.each([
    ["gmail.com", "gmail.co"],
    ["gmail.com", "mail.gmail.com"],
    ["1.2.3", "1.2.0.3"],
    ["1.2.3", "[1.2.0.3]"],
    ["0x7f.0.0.1", "127.0.0.1"],
    ["2130706433", "127.0.0.1"],
    ["192.0.43.10", "192.0.43.1"],
    ["192.0.43.10", "192.0.43.10.example"],
    ["[IPv6:2001:db8::1]", "[IPv6:2001:db8::2]"],
    ["bücher.example", "bucher.example"],
    ["a_b.example", "a-b.example"],
  ])("tryAcquire: %s is not %s", (one, other) => {
    expectDifferentDomains(one, other);
  });

  test("explain: a domain and a host of the same name have counters of their own", () => {
    const limiter = limiterFor(`domain "x.example" { ${max} = 1 } host "x.example" { ${max} = 1 }`);
    const [first, second] = keysOf(limiter, { domain: "x.example", host: "x.example" }, max);
    expect(first).not.toBe(second);
    expect(limiter.tryAcquire({ domain: "x.example" })).toBeDefined();
    expect(limiter.tryAcquire({ domain: "y.example", host: "x.example" })).toBeDefined();
  });

  test("explain: no choice of names makes the counters of two targets one", () => {
    const limiter = limiterFor(`host "/./" { ${max} = 1 }`);
    // Separators that an implementation may use, in names where they are legal.
    const parts = ["a", "b", "a/b", "a,b", "a|b", "a=b", "a>b", '"', "\\", "a\\", "›", "a›b", "__proto__"];
    const seen = new Map<string, string>();
    for (const binding of parts) {
      for (const domain of parts) {
        let keys: string[];
        try {
          keys = keysOf(limiter, { binding, domain }, max);
        } catch (error) {
          // A name may be refused; it may not be mistaken for another.
          expect(error).toBeInstanceOf(TypeError);
          continue;
        }
        const names = JSON.stringify([binding, domain]);
        for (const key of keys) {
          expect([key, seen.get(key) ?? names]).toEqual([key, names]);
          seen.set(key, names);
        }
      }
    }
    expect(seen.size).toBeGreaterThan(3);
  });

  test("explain: patterns see the normal form", () => {
    const limiter = limiterFor(String.raw`
      domain "/^xn--bcher-kva\.example$/" { ${max} = 3 }
      domain "/^gmail\.com$/" { ${max} = 4 }
    `);
    expect(limitsOf(limiter, { domain: "BÜCHER.example." }, max)).toEqual([3]);
    expect(limitsOf(limiter, { domain: "GMAIL.COM." }, max)).toEqual([4]);
    expect(limitsOf(limiter, { domain: "xgmail.com" }, max)).toEqual([32]);
  });

  test("explain: patterns match without regard to case and without anchors", () => {
    const limiter = limiterFor(`domain "/GMail/" { ${max} = 3 } host "/MX[1-9]/" { ${max} = 4 }`);
    expect(limitsOf(limiter, { domain: "x.gmail.com", host: "a.mx7.example" }, max)).toEqual([3, 4]);
  });

  test("snapshot: the counters of one name in many spellings are one", () => {
    const limiter = limiterFor("");
    const spellings = ["gmail.com", "GMAIL.COM", "gmail.com.", "Gmail.Com."];
    const leases = spellings.map((domain) => limiter.tryAcquire({ domain }));
    const counters = limiter.snapshot().counters.filter((counter) => counter.limit === 32);
    expect(counters).toMatchObject([{ inUse: 4, limit: 32 }]);
    for (const lease of leases) lease?.release();
    expectNothingCounted(limiter);
  });
});

describe("refused names", () => {
  const tooLong = `${"a".repeat(63)}.${"b".repeat(63)}.${"c".repeat(63)}.${"d".repeat(62)}`;
  const longest = tooLong.slice(0, -1);
  const refused: [string, unknown][] = [
    ["nothing", ""],
    ["a dot", "."],
    ["two dots", ".."],
    ["an empty label", "a..b"],
    ["an empty label in front", ".example.com"],
    ["two dots at the end", "example.com.."],
    ["a space", "exam ple.com"],
    ["a space in front", " example.com"],
    ["a space behind", "example.com "],
    ["a tab", "exam\tple.com"],
    ["a line end", "example.com\n"],
    ["a carriage return", "example.com\r\nRCPT TO:<a@b>"],
    ["a NUL", "example.com\0"],
    ["an escape", "\u001b[31mexample.com"],
    ["a DEL", "exam\u007fple.com"],
    ["a C1 control", "exam\u0085ple.com"],
    ["a no-break space", "exam\u00a0ple.com"],
    ["a line separator", "exam\u2028ple.com"],
    ["an ideographic space", "exam\u3000ple.com"],
    ["254 octets", tooLong],
    ["254 octets in ASCII form", `${"ü.".repeat(42)}example`],
    ["100,000 octets", "a".repeat(100_000)],
    ["a lone surrogate", "a\ud800.example"],
    ["an address that is none", "[192.0.43.300]"],
    ["an IPv6 address that is none", "[IPv6:2001:db8::1::2]"],
    ["a bracket left open", "[192.0.43.10"],
    ["undefined", undefined],
    ["null", null],
    ["a number", 5],
    ["an object", { toString: () => "example.com" }],
    ["an array", ["example.com"]],
  ];

  test("the lengths meant are 253 and 254", () => {
    expect([longest.length, tooLong.length]).toEqual([253, 254]);
  });

  test.each(refused)("acquire: a domain with %s: TypeError, nothing counted", async (_what, domain) => {
    await expectRefused(limiterFor(`domain "/./" { ${scopeMax} = 3 }`), { domain });
  });

  test.each(refused.filter(([, host]) => host !== undefined))(
    "acquire: a host with %s: TypeError, nothing counted",
    async (_what, host) => {
      await expectRefused(limiterFor(`host "/./" { ${scopeMax} = 3 }`), { domain: "example.com", host });
    },
  );

  test.each<[string, unknown]>([
    ["a space", "my binding"],
    ["a colon", "my:binding"],
    ["nothing", ""],
    ["a number", 5],
    ["an object", {}],
  ])("acquire: a binding or group with %s: TypeError, nothing counted (binding)", async (_what, name) => {
    await expectRefused(limiterFor(""), { domain: "example.com", binding: name });
    await expectRefused(limiterFor(""), { domain: "example.com", binding: "b", bindingGroup: name });
  });

  test.each([undefined, null, 5, "example.com", [], {}])("acquire: %s is no target", async (target) => {
    await expectRefused(limiterFor(""), target);
  });

  test("acquire: a refusal leaves those that hold and wait alone", async () => {
    const limiter = limiterFor(`${max} = 1`);
    const lease = limiter.tryAcquire({ domain: "d.example" });
    const waiting = limiter.acquire({ domain: "d.example" });
    const before = limiter.snapshot();
    await expect((async () => limiter.acquire({ domain: "a..b" }))()).rejects.toThrow(TypeError);
    const counted = ({ leases, waiting, counters }: typeof before) => ({
      leases,
      waiting,
      counters: counters.map(({ key, inUse }) => ({ key, inUse })),
    });
    expect(counted(limiter.snapshot())).toEqual(counted(before));
    lease?.release();
    (await waiting).release();
    expectNothingCounted(limiter);
  });

  test.each(["a..b", "a b", "x\u0001y"])("parsePolicy: a stanza's name is held to the same: %j", (name) => {
    expect(() => parsePolicy(`domain "${name}" {}`)).toThrow(
      expect.objectContaining({ issues: [expect.objectContaining({ rule: "bad-name", line: 1 })] }),
    );
    expect(() => definePolicy({ host: { [name]: {} } })).toThrow(
      expect.objectContaining({ issues: [expect.objectContaining({ rule: "bad-name", line: 0, column: 0 })] }),
    );
  });

  test("parsePolicy: a stanza's name of 254 octets", () => {
    expect(() => parsePolicy(`domain "${tooLong}" {}`)).toThrow(
      expect.objectContaining({ issues: [expect.objectContaining({ rule: "bad-name" })] }),
    );
    expect(() => parsePolicy(`domain "${longest}" {}`)).not.toThrow();
  });

  test("acquire: 253 octets are fine, and a dot behind them is none", () => {
    expectSameDomain(longest, `${longest.toUpperCase()}.`);
    const limiter = limiterFor("");
    const lease = limiter.tryAcquire({ domain: longest, host: longest });
    expect(lease).toBeDefined();
    lease?.release();
    expectNothingCounted(limiter);
  });
});

describe("hostile names", () => {
  test("explain: names of 60 characters against /^(a+)+$/ are answered", () => {
    const limiter = limiterFor(`
      domain "/^(a+)+$/" { ${max} = 3 }
      domain "/^(a|a)*$/" { ${max} = 4 }
      domain "/^([a-z]+)*[.]$/" { ${max} = 5 }
      host "/(.*a){20}$/" { ${max} = 6 }
    `);
    expect(limitsOf(limiter, { domain: "a".repeat(60) }, max)).toEqual([3]);
    expect(limitsOf(limiter, { domain: `${"a".repeat(59)}b` }, max)).toEqual([32]);
    expect(limitsOf(limiter, { domain: `${"a".repeat(59)}!` }, max)).toEqual([32]);
    expect(limitsOf(limiter, { domain: "b", host: `${"a".repeat(59)}b` }, max)).toEqual([32]);
    // A thousand different ones, longest length.
    for (let index = 0; index < 1000; index++) {
      limiter.explain({ domain: `${"a".repeat(248)}${index}`, host: `${"a".repeat(248)}${index}` });
    }
    expectNothingCounted(limiter);
  });

  test.each(["__proto__", "constructor", "toString", "hasOwnProperty", "prototype", "valueOf"])(
    "tryAcquire: %s is an ordinary name everywhere",
    (name) => {
      const text = limiterFor(`
        binding_group "${name}" {
          ${max} = 9
          binding "${name}" { ${max} = 8 domain "${name}" { ${max} = 7 } host "${name}" { ${max} = 6 } }
        }
        domain "${name}" { ${max} = 5 }
      `);
      // A computed key makes an own property of `__proto__`, as JSON.parse does.
      const inner = { [max]: 8, domain: { [name]: { [max]: 7 } }, host: { [name]: { [max]: 6 } } };
      const input: PolicyInput = {
        binding_group: { [name]: { [max]: 9, binding: { [name]: inner } } },
        domain: { [name]: { [max]: 5 } },
      };
      const data = createLimiter(definePolicy(input));
      for (const limiter of [text, data]) {
        const target: Target = { binding: name, domain: name, host: name };
        expect(limitsOf(limiter, target, max)).toEqual([6, 7]);
        expect(limitsOf(limiter, { ...target, bindingGroup: name, domain: "d.example" }, max)).toEqual([6, 8]);
        expect(limitsOf(limiter, { binding: "b", bindingGroup: name, domain: "d.example" }, max)).toEqual([9]);
        expect(limitsOf(limiter, { domain: name }, max)).toEqual([5]);
        expect(room(limiter, target)).toBe(6);
        expectNothingCounted(limiter);
      }
    },
  );

  test.each(["__proto__", "constructor", "toString"])(
    "tryAcquire: %s, which no policy mentions, is unknown",
    (name) => {
      const limiter = limiterFor(`binding_group "g" { binding "b" {} } domain "d.example" {}`);
      const target: Target = { binding: name, bindingGroup: name, domain: name, host: name };
      expect(limiter.explain(target).limits.map((limit) => limit.setAt)).toEqual(
        limiter.explain({ domain: "other.example" }).limits.map((limit) => limit.setAt),
      );
      expect(room(limiter, target)).toBe(32);
      expectNothingCounted(limiter);
      expect(Object.getOwnPropertyNames(Object.prototype)).not.toContain(max);
      expect(({} as { [option in LimitOption]?: number })[max]).toBeUndefined();
    },
  );

  // A collection on demand, without a flag for whoever runs the tests.
  const heapUsed = () => {
    setFlagsFromString("--expose-gc");
    (runInNewContext("gc") as (() => void) | undefined)?.();
    return process.memoryUsage().heapUsed;
  };
  /** Opens and closes a connection to each of many different targets, and compares the memory after a fifth with the end. */
  const expectNothingKept = (limiter: LocalLimiter, count: number, target: (index: number) => Target) => {
    let afterFifth = 0;
    for (let index = 1; index <= count; index++) {
      const lease = limiter.tryAcquire(target(index));
      if (!lease) throw new Error(`No connection slot for target ${index}`);
      lease.release();
      if (index === count / 5) afterFifth = heapUsed();
    }
    expectNothingCounted(limiter);
    // At 100 bytes for each of the other names it would be more.
    expect(heapUsed() - afterFifth).toBeLessThan(20_000_000 + count * 40);
  };

  test("tryAcquire: a million different names leave no counter and bounded memory behind", { timeout: 300_000 }, () => {
    const limiter = limiterFor(String.raw`
      domain "/^name-\d*7\.example$/" { ${max} = 3 }
      domain "/^(wanadoo|orange)\.fr$/" { ${scopeMax} = 3 }
      host "/^mx-\d*3\./" { ${max} = 5 }
      binding "b" { domain "/example$/" { ${scopeMax} = 3 } }
    `);
    expectNothingKept(limiter, 1_000_000, (index) => {
      const domain = `name-${index}.example`;
      return index % 2 === 0 ? { domain, host: `mx-${index}.example` } : { binding: "b", domain };
    });
  });

  test("tryAcquire: many different names of bindings and groups, too", { timeout: 300_000 }, () => {
    const limiter = limiterFor(`binding_group "g" { ${max} = 3 }`);
    expectNothingKept(limiter, 200_000, (index) => ({
      binding: `binding-${index}`,
      bindingGroup: index % 2 === 0 ? "g" : `group-${index}`,
      domain: "d.example",
    }));
  });
});

describe("bindings and groups", () => {
  const to = (binding?: string, bindingGroup?: string): Target => ({ binding, bindingGroup, domain: "d.example" });

  test("explain: a target without a binding uses `default`, in the group `default`", () => {
    const limiter = limiterFor(`
      binding_group "default" { ${scopeMax} = 9 }
      binding "default" { ${max} = 3 }
    `);
    expect(placesOf(limiter, to(), max)).toEqual(['binding "default": 3']);
    expect(placesOf(limiter, to(), scopeMax)).toEqual(['binding_group "default": 9']);
    expect(keysOf(limiter, to(), max)).toEqual(keysOf(limiter, to("default", "default"), max));
    expect(limiter.explain({ domain: "d.example", binding: undefined, bindingGroup: undefined }).verdict).toBe("go");
  });

  test("explain: the binding `default` may be put into a group; then that is its group", () => {
    const limiter = limiterFor(`binding_group "g" { ${max} = 3 binding "default" {} }`);
    expect(limitsOf(limiter, to(), max)).toEqual([3]);
    expect(() => limiter.explain(to("default", "default"))).toThrow(TypeError);
    expect(limitsOf(limiter, to("other"), max)).toEqual([32]);
  });

  test("explain: the caller may leave the group out; it is looked up", () => {
    const limiter = limiterFor(`binding_group "g" { ${max} = 3 binding "b" {} }`);
    expect(limitsOf(limiter, to("b"), max)).toEqual([3]);
    expect(keysOf(limiter, to("b"), max)).toEqual(keysOf(limiter, to("b", "g"), max));
  });

  test("acquire: a caller that names a group other than the policy's: TypeError, nothing counted", async () => {
    const limiter = limiterFor(`
      binding_group "g" { binding "inside" {} }
      binding_group "h" {}
      binding "outside" {}
      binding "three" { binding_group = "g" }
    `);
    await expectRefused(limiter, to("inside", "h"));
    await expectRefused(limiter, to("inside", "default"));
    await expectRefused(limiter, to("inside", "never-heard-of"));
    await expectRefused(limiter, to("inside", "G"));
    await expectRefused(limiter, to("outside", "g"));
    await expectRefused(limiter, to("three", "h"));
    expect(limiter.explain(to("outside", "default")).verdict).toBe("go");
    expect(limiter.explain(to("three", "g")).verdict).toBe("go");
  });

  test("explain: a binding the policy never mentions takes the caller's group, or `default`", () => {
    const limiter = limiterFor(`
      ${max} = 1
      binding_group "default" { ${max} = 2 }
      binding_group "g" { ${max} = 3 }
    `);
    expect(limitsOf(limiter, to("new"), max)).toEqual([2]);
    expect(limitsOf(limiter, to("new", "default"), max)).toEqual([2]);
    expect(limitsOf(limiter, to("new", "g"), max)).toEqual([3]);
    expect(limitsOf(limiter, to("new", "never-heard-of"), max)).toEqual([1]);
    // Equal keys have equal limits: so these three differ.
    const keys = [to("new"), to("new", "g"), to("new", "never-heard-of")].map(
      (target) => keysOf(limiter, target, max)[0],
    );
    expect(new Set(keys).size).toBe(3);
  });

  test('explain: binding "b" { binding_group = "g" }, the form of Momentum 3, as nesting does (binding_group)', () => {
    const limiter = limiterFor(`
      binding "b" { binding_group = "g" ${max} = 4 domain "d.example" { ${scopeMax} = 40 } }
      binding "c" { binding_group = g }
      binding_group "g" { ${max} = 3 ${scopeMax} = 9 }
    `);
    expect(limitsOf(limiter, { binding: "b", domain: "e.example" }, max)).toEqual([4]);
    expect(limitsOf(limiter, to("b"), scopeMax)).toEqual([9, 40]);
    expect(limitsOf(limiter, to("b"), max)).toEqual([]);
    expect(limitsOf(limiter, to("c"), max)).toEqual([3]);
    expect(room(limiter, { binding: "b", domain: "e.example" }, { binding: "c", domain: "e.example" })).toBe(7);
    expect(room(limiter, to("b"), to("c"), to("new", "g"))).toBe(9);
  });

  test("definePolicy: the same form as an object", () => {
    const limiter = createLimiter(
      definePolicy({ binding: { b: { binding_group: "g" } }, binding_group: { g: { [max]: 3 } } }),
    );
    expect(limitsOf(limiter, to("b"), max)).toEqual([3]);
    expect(limitsOf(limiter, to("b", "g"), max)).toEqual([3]);
  });

  test("explain: a binding written both outside and inside its group: the inner stanza is the more specific", () => {
    for (const text of [
      `binding "b" { ${max} = 4 } binding_group "g" { ${max} = 3 binding "b" { ${max} = 5 } }`,
      `binding "b" { binding_group = "g" ${max} = 4 } binding_group "g" { ${max} = 3 binding "b" { ${max} = 5 } }`,
      `binding_group "g" { ${max} = 3 binding "b" { ${max} = 5 } } binding "b" { ${max} = 4 }`,
    ]) {
      const limiter = limiterFor(text);
      expect(limitsOf(limiter, to("b"), max)).toEqual([5]);
      expect(limitsOf(limiter, to("b", "g"), max)).toEqual([5]);
      expect(() => limiter.explain(to("b", "default"))).toThrow(TypeError);
    }
    const outer = limiterFor(`binding "b" { ${max} = 4 } binding_group "g" { ${max} = 3 binding "b" {} }`);
    expect(placesOf(outer, to("b"), max)).toEqual(['binding "b": 4']);
    const domains = limiterFor(`
      binding "b" { domain "d.example" { ${max} = 4 } }
      binding_group "g" { domain "d.example" { ${max} = 3 } binding "b" { ${max} = 5 } }
    `);
    expect(placesOf(domains, to("b"), max)).toEqual(['binding "b" › domain "d.example": 4']);
  });

  test.each([
    [`binding_group "g" {\n  binding "b" {}\n}\nbinding_group "h" {\n  binding "b" {}\n}\n`, 2, 5],
    [`binding "b" {\n  binding_group = "g"\n}\nbinding_group "h" {\n  binding "b" {}\n}\n`, 2, 5],
    [`binding "b" {\n  binding_group = "g"\n}\n\n\n\nbinding "b" {\n  binding_group = "h"\n}\n`, 2, 8],
  ])("parsePolicy: one binding in two groups is an error that names both lines: case %#", (text, first, second) => {
    let thrown: unknown;
    try {
      parsePolicy(text, { source: "x" });
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: "ERR_LIMITER_POLICY" });
    const { issues } = thrown as PolicyError;
    expect(issues).toHaveLength(1);
    // Momentum 3's form may be pointed at by its stanza (one line above) as well as by its option.
    const words = `${issues[0].line} ${issues[0].message} ${issues[0].help ?? ""}`;
    const named = (line: number) => new RegExp(`\\b(${line}|${line - 1})\\b`).test(words);
    expect([words, named(first), named(second)]).toEqual([words, true, true]);
  });

  test("definePolicy: one binding in two groups is an error, too", () => {
    const twice = { binding_group: { g: { binding: { b: {} } }, h: { binding: { b: {} } } } };
    expect(() => definePolicy(twice)).toThrow(expect.objectContaining({ code: "ERR_LIMITER_POLICY" }));
    const both = { binding: { b: { binding_group: "g" } }, binding_group: { h: { binding: { b: {} } } } };
    expect(() => definePolicy(both)).toThrow(expect.objectContaining({ code: "ERR_LIMITER_POLICY" }));
  });

  test("explain: names of bindings and groups are case-sensitive, keywords are not", () => {
    const limiter = limiterFor(`
      BINDING_GROUP "g" { Max_Outbound_Connections = 3 Binding "b" {} }
      Binding_Group "G" { MAX_OUTBOUND_CONNECTIONS = 4 BINDING "B" {} }
    `);
    expect(limitsOf(limiter, to("b"), max)).toEqual([3]);
    expect(limitsOf(limiter, to("B"), max)).toEqual([4]);
    expect(() => limiter.explain(to("B", "g"))).toThrow(TypeError);
    expect(keysOf(limiter, to("b"), max)).not.toEqual(keysOf(limiter, to("B"), max));
  });
});
