// The package as its users get it: packed, unpacked into projects of each kind, imported, type-checked and run.

import { execFileSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describeRedis, openRedis } from "./redis/server.js";

const ROOT = join(import.meta.dirname, "..");
const scratch = realpathSync(mkdtempSync(join(tmpdir(), "outbound-limiter-package-")));
let unpacked: string;

beforeAll(() => {
  unpacked = pack();
}, 120_000);

afterAll(() => {
  rmSync(scratch, { recursive: true, force: true });
});

/** Packs a copy of the repository (which builds it), so that a test run neither needs nor touches `dist`. */
function pack(): string {
  const copy = join(scratch, "repository");
  const leftOut = new Set([".git", "node_modules", "dist", "coverage", "test", "bench"]);
  mkdirSync(copy);
  for (const name of readdirSync(ROOT)) {
    if (!leftOut.has(name)) cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  }
  symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"), "junction");

  run("npm", ["pack", "--pack-destination", scratch], copy);
  const tarball = readdirSync(scratch).find((name) => name.endsWith(".tgz"));
  run("tar", ["-xzf", String(tarball)], scratch);
  return join(scratch, "package");
}

/** A project with the package installed: its files for real, its declared dependencies from here. */
function project(
  name: string,
  settings: object,
  files: Readonly<Record<string, string>>,
  types: readonly string[] = [],
): string {
  const folder = join(scratch, name);
  const modules = join(folder, "node_modules");
  cpSync(unpacked, join(modules, "outbound-limiter"), { recursive: true });
  for (const dependency of [...Object.keys(manifest().dependencies), ...types]) {
    mkdirSync(join(modules, dependency, ".."), { recursive: true });
    symlinkSync(join(ROOT, "node_modules", dependency), join(modules, dependency), "junction");
  }
  writeFileSync(join(folder, "package.json"), JSON.stringify(settings));
  for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, file), text);
  return folder;
}

function manifest(): { readonly dependencies: Readonly<Record<string, string>> } {
  return JSON.parse(readFileSync(join(unpacked, "package.json"), "utf8"));
}

/** What the command prints; what it complains about is in the error it throws. */
function run(command: string, args: readonly string[], cwd: string): string {
  try {
    return execFileSync(command, args, { cwd, encoding: "utf8", stdio: "pipe" });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`${command} ${args.join(" ")} failed:\n${stdout}${stderr}`);
  }
}

function declarations(): string[] {
  return readdirSync(unpacked, { recursive: true, encoding: "utf8" }).filter((file) => /\.d\.c?ts$/.test(file));
}

/** The same everywhere; only how it is imported and what the types add differs. */
const USE = `
  const limiter = createLimiter(definePolicy({ max_outbound_connections: 1 }));
  const target = { domain: "example.com" };
  const first = limiter.tryAcquire(target);
  const second = limiter.tryAcquire(target);
  first?.release();
  const third = await limiter.acquire(target, { timeout: 0 });
  third.release();
  const ran = await limiter.run(target, (lease) => lease.target.domain);
  console.log([first !== undefined, second === undefined, third.waited, ran].join(" "));
`;
const USED = "true true 0 example.com\n";

describe("the package", { timeout: 60_000 }, () => {
  it("holds nothing but the build, the manifest and what a reader needs", () => {
    expect(readdirSync(unpacked).sort()).toEqual(["CHANGELOG.md", "LICENSE", "README.md", "dist", "package.json"]);
  });

  it("names no folder of the machine it was built on", () => {
    for (const file of readdirSync(join(unpacked, "dist"), { recursive: true, withFileTypes: true })) {
      if (!file.isFile()) continue;
      const text = readFileSync(join(file.parentPath, file.name), "utf8");
      for (const folder of [ROOT, scratch]) expect(text.includes(folder), `${file.name} names ${folder}`).toBe(false);
    }
  });

  it("declares types that mention no type of a dependency", () => {
    expect(declarations()).toContain(join("dist", "index.d.ts"));
    for (const file of declarations()) {
      const text = readFileSync(join(unpacked, file), "utf8");
      for (const dependency of Object.keys(manifest().dependencies)) {
        const mention = new RegExp(`["']${dependency}["'/]`);
        expect(mention.test(text), `${file} mentions ${dependency}`).toBe(false);
      }
    }
  });

  it("declares the same types for CommonJS, with imports of its own kind", () => {
    const [modules, commonJs] = [/\.d\.ts$/, /\.d\.cts$/].map((kind) =>
      declarations().filter((file) => kind.test(file)),
    );
    expect(commonJs).toEqual(modules?.map((file) => file.replace(/ts$/, "cts")));
    for (const file of commonJs ?? []) {
      expect(readFileSync(join(unpacked, file), "utf8"), file).not.toMatch(
        /(from|import\() *["']\.[^"']*(?<!\.cjs)["']/,
      );
    }
  });

  it("works as an ES module", () => {
    const folder = project(
      "esm",
      { type: "module" },
      {
        "use.js": `import { createLimiter, definePolicy } from "outbound-limiter";\n${USE}`,
      },
    );
    expect(run("node", ["use.js"], folder)).toBe(USED);
  });

  it("works as CommonJS", () => {
    const folder = project(
      "cjs",
      {},
      {
        "use.js": `const { createLimiter, definePolicy } = require("outbound-limiter");\nvoid (async () => {${USE}})();`,
      },
    );
    expect(run("node", ["use.js"], folder)).toBe(USED);
  });

  it("works in TypeScript, in both module formats, under the strictest settings", () => {
    const compilerOptions = {
      target: "ES2022",
      module: "NodeNext",
      types: ["node"],
      strict: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: false,
      declaration: true,
      outDir: "out",
      rootDir: ".",
    };
    const typed = `
      import {
        type Cluster, createLimiter, definePolicy, isLimiterError, type Lease, type Limiter, type LimiterError, type LocalLimiter,
        type PolicyInput,
      } from "outbound-limiter";
      import { limitedSocket } from "outbound-limiter/nodemailer";
      import { redisCluster, type RedisClusterOptions } from "outbound-limiter/redis";
      import { createTransport } from "nodemailer";
      const input: PolicyInput = { domain: { "example.com": { max_outbound_connections: 1 } } };
      const typed: LocalLimiter = createLimiter(definePolicy(input));
      {
        using lease: Lease | undefined = typed.tryAcquire({ domain: "example.com", host: undefined });
        if (lease === undefined) throw new Error("no lease");
      }
      const options: RedisClusterOptions = { prefix: "mta", ttl: 10_000, whenDown: "share" };
      const cluster: Cluster = redisCluster(async (script: string) => script, options);
      const shared = (): Limiter => createLimiter(definePolicy(input), { cluster });
      const blockedBy = (error: unknown) =>
        isLimiterError(error) && error.code === "ERR_LIMITER_TIMEOUT" ? error.blockedBy : [];
      const isOurs: (error: unknown) => error is LimiterError = isLimiterError;
      // Its type can be written down.
      export const getSocket = limitedSocket(typed, ({ host }) => ({ domain: "example.com", host }), { timeout: 1000 });
      const transports = () => [createTransport({ getSocket }), createTransport({ pool: true, getSocket })];
      const asDeclared = limitedSocket(shared(), (options: object) => ({ domain: String(options) }));
      const proxied = createTransport({ proxy: "http://localhost:1" });
      proxied.getSocket = limitedSocket(typed, () => ({ domain: "example.com" }), {}, proxied.getSocket);
      // @ts-expect-error: a cluster has no synchronous answer
      () => { const local: LocalLimiter = shared(); };
      // @ts-expect-error: a client, or a function
      () => redisCluster("redis://localhost");
      // @ts-expect-error: the types are there, and are not "any"
      () => typed.tryAcquire({ domain: 1 });
    `;
    const files = {
      "tsconfig.json": JSON.stringify({ compilerOptions, include: ["*.mts", "*.cts"] }),
      "use.mts": `${typed}${USE}`,
      "use.cts": `${typed}void (async () => {${USE}})();`,
    };
    const folder = project("typescript", {}, files, ["@types/node", "nodemailer"]);
    run(join(ROOT, "node_modules", ".bin", "tsc"), ["-p", "."], folder);
    expect(run("node", ["out/use.mjs"], folder)).toBe(USED);
    expect(run("node", ["out/use.cjs"], folder)).toBe(USED);
  });

  it("knows the errors of a second copy of itself, in the other format", () => {
    const folder = project(
      "both",
      { type: "module" },
      {
        "use.js": `
        import { createRequire } from "node:module";
        import * as esm from "outbound-limiter";
        const cjs = createRequire(import.meta.url)("outbound-limiter");
        for (const [thrower, asked] of [[esm, cjs], [cjs, esm]]) {
          try {
            thrower.definePolicy({ max_outbound_connections: -2 });
          } catch (error) {
            console.log([error instanceof asked.LimiterError, asked.isLimiterError(error), error.code].join(" "));
          }
        }
        console.log([esm.isLimiterError(new Error("not ours")), cjs.isLimiterError(undefined)].join(" "));
      `,
      },
    );
    const recognised = "false true ERR_LIMITER_POLICY\n";
    expect(run("node", ["use.js"], folder)).toBe(`${recognised}${recognised}false false\n`);
  });

  it("has the metrics, also for a limiter of the other format", () => {
    const folder = project(
      "metrics",
      { type: "module" },
      {
        "use.js": `
        import { createRequire } from "node:module";
        import promClient from "prom-client";
        import * as esm from "outbound-limiter";
        import { prometheusMetrics } from "outbound-limiter/metrics";
        const require = createRequire(import.meta.url);
        const cjs = require("outbound-limiter");
        const limiters = [esm, cjs].map(({ createLimiter, definePolicy }) => createLimiter(definePolicy({})));
        prometheusMetrics(limiters[0], promClient, { prefix: "a_" });
        prometheusMetrics(limiters[1], promClient, { prefix: "b_" });
        require("outbound-limiter/metrics").prometheusMetrics(limiters[1], promClient, { prefix: "c_" });
        for (const limiter of limiters) limiter.tryAcquire({ domain: "example.com" });
        const text = await promClient.register.metrics();
        console.log(text.match(/^[abc]_outbound_limiter_leases .*/gm).join(" "));
      `,
      },
      ["prom-client"],
    );
    const leases = ["a", "b", "c"].map((prefix) => `${prefix}_outbound_limiter_leases 1`).join(" ");
    expect(run("node", ["use.js"], folder)).toBe(`${leases}\n`);
  });

  it("has the sockets for nodemailer, in both formats", () => {
    const use = `
      const limiter = createLimiter(definePolicy({ max_outbound_connections: 1 }));
      const server = createServer((socket) => socket.end("421 Not now\\r\\n")).listen(0, "127.0.0.1", () => {
        const getSocket = limitedSocket(limiter, ({ host }) => ({ domain: "example.com", host }));
        const { port } = server.address();
        getSocket({ host: "127.0.0.1", port }, (error, { connection }) => {
          console.log(error, limiter.tryAcquire({ domain: "example.com" }) === undefined);
          connection.resume().once("close", () => {
            console.log(limiter.tryAcquire({ domain: "example.com" }) !== undefined);
            server.close();
          });
        });
      });`;
    const esm = `
      import { createServer } from "node:net";
      import { createLimiter, definePolicy } from "outbound-limiter";
      import { limitedSocket } from "outbound-limiter/nodemailer";`;
    const cjs = `
      const { createServer } = require("node:net");
      const { createLimiter, definePolicy } = require("outbound-limiter");
      const { limitedSocket } = require("outbound-limiter/nodemailer");`;
    const folder = project("nodemailer", {}, { "use.mjs": `${esm}${use}`, "use.cjs": `${cjs}${use}` });
    for (const file of ["use.mjs", "use.cjs"]) expect(run("node", [file], folder)).toBe("null true\ntrue\n");
  });

  it("has the command", () => {
    const folder = project("command", {}, { "limits.conf": "max_outbound_connections = 20\n" });
    const { bin, version } = JSON.parse(readFileSync(join(unpacked, "package.json"), "utf8")) as {
      readonly bin: Readonly<Record<string, string>>;
      readonly version: string;
    };
    const command = join("node_modules", "outbound-limiter", String(bin["outbound-limiter"]));
    expect(run("node", [command, "--version"], folder)).toBe(`${version}\n`);
    expect(run("node", [command, "check", "limits.conf"], folder)).toBe("limits.conf: no issues\n");
  });
});

describeRedis("the package, with a server", { timeout: 60_000 }, () => {
  it("has the limits of a cluster, for limiters of both formats together", async () => {
    const folder = project(
      "redis",
      { type: "module" },
      {
        "use.js": `
        import { createRequire } from "node:module";
        import { Redis } from "ioredis";
        import * as esm from "outbound-limiter";
        import { redisCluster } from "outbound-limiter/redis";
        const require = createRequire(import.meta.url);
        const cjs = require("outbound-limiter");
        const client = new Redis(process.argv[2]);
        const makers = [redisCluster, require("outbound-limiter/redis").redisCluster];
        const clusters = makers.map((make) => make(client, { prefix: process.argv[3], isNew: true }));
        const limiters = [esm, cjs, esm, cjs].map(({ createLimiter, definePolicy }, index) =>
          createLimiter(definePolicy({ cluster_server_max_outbound_connections: 1 }), { cluster: clusters[index >> 1] }),
        );
        const order = [];
        for (const [index, limiter] of limiters.entries()) {
          await limiter.run({ domain: "example.com" }, async () => {
            const other = limiters[(index + 1) % 4];
            await other.acquire({ domain: "example.com" }, { timeout: 0 }).catch(({ code }) => order.push(code));
          });
        }
        for (const limiter of limiters) await limiter.close();
        client.disconnect();
        console.log(order.join(" "));
      `,
      },
      ["ioredis"],
    );
    await using redis = await openRedis();
    const busy = Array.from({ length: 4 }, () => "ERR_LIMITER_TIMEOUT").join(" ");
    expect(run("node", ["use.js", redis.url, `package-${process.pid}`], folder)).toBe(`${busy}\n`);
  });
});
