// A policy file that is edited, replaced, broken and mended while a limiter runs; on real files.
import { appendFile, mkdir, mkdtemp, readlink, rename, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  createLimiter,
  type LocalLimiter,
  type Policy,
  type PolicyWatch,
  parsePolicy,
  type Target,
  type WatchOptions,
  watchPolicy,
} from "../src/index.js";

const gmail: Target = { binding: "mta-1", domain: "gmail.com" };
const PATIENCE = { timeout: 20_000, interval: 10 };

let folder: string;
let path: string;
let limiter: LocalLimiter;
let watching: PolicyWatch | undefined;
let reloads: Policy[];
let errors: unknown[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "watch-"));
  path = join(folder, "limits.conf");
  limiter = createLimiter(parsePolicy("max_outbound_connections = 99"));
  watching = undefined;
  reloads = [];
  errors = [];
});

afterEach(async () => {
  watching?.close();
  await rm(folder, { recursive: true });
});

const limit = (): number | undefined =>
  limiter.explain(gmail).limits.find(({ option }) => option === "max_outbound_connections")?.limit;

async function follow(options: WatchOptions = {}): Promise<void> {
  watching = await watchPolicy(path, limiter, {
    pause: 20,
    onReload: (policy) => reloads.push(policy),
    onError: (error) => errors.push(error),
    ...options,
  });
}

const write = (value: number | string, to = path): Promise<void> =>
  writeFile(to, `max_outbound_connections = ${value}\n`);
const expectLimit = (value: number): Promise<void> => vi.waitFor(() => expect(limit()).toBe(value), PATIENCE);

/** Longer than a change takes to be noticed here; only to see that nothing comes of it. */
const quiet = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 300));

describe("watchPolicy", { timeout: 60_000 }, () => {
  it("puts the policy in force, and every later one", async () => {
    await write(1);
    await follow();
    expect(limit()).toBe(1);
    for (const value of [2, 3]) {
      await write(value);
      await expectLimit(value);
    }
    await vi.waitFor(() => expect(String(reloads.at(-1))).toContain("max_outbound_connections = 3"), PATIENCE);
    expect(errors).toEqual([]);
  });

  it("admits who waits as soon as the limit is raised", async () => {
    await write(1);
    await follow();
    limiter.tryAcquire(gmail);
    const second = limiter.acquire(gmail);
    await write(2);
    await expect(second).resolves.toBeDefined();
  });

  it("keeps the policy when an edit is broken, tells so, and goes on when it is mended", async () => {
    await write(1);
    await follow();
    await write("many");
    await vi.waitFor(() => expect(errors).toHaveLength(1), PATIENCE);
    expect(errors[0]).toMatchObject({ code: "ERR_LIMITER_POLICY", issues: [{ source: path, line: 1, column: 28 }] });
    expect(limit()).toBe(1);
    await write(2);
    await expectLimit(2);
  });

  it("tells of a broken edit by a process warning if nobody else is told", async () => {
    await write(1);
    await follow({ onError: undefined } as unknown as WatchOptions);
    const warnings = vi.spyOn(process, "emitWarning").mockImplementation(() => undefined);
    try {
      await write("many");
      await vi.waitFor(() => expect(warnings).toHaveBeenCalled(), PATIENCE);
      expect(warnings.mock.calls[0]?.[0]).toContain("limits.conf:1:28");
    } finally {
      warnings.mockRestore();
    }
  });

  it("tells observers of a broken edit", async () => {
    const failed: unknown[] = [];
    limiter = createLimiter(parsePolicy(""), { observer: { reloadFailed: (event) => failed.push(event) } });
    await write(1);
    await follow();
    await write("many");
    await vi.waitFor(() => expect(failed).toHaveLength(1), PATIENCE);
    expect(failed[0]).toMatchObject({ policy: path, error: { code: "ERR_LIMITER_POLICY" } });
  });

  it("sees a file that takes the place of the old one, as editors save", async () => {
    await write(1);
    await follow();
    await write(2, `${path}.new`);
    await rename(`${path}.new`, path);
    await expectLimit(2);
    await write(3);
    await expectLimit(3);
  });

  it("sees a link that is moved, as config maps are mounted", async () => {
    for (const value of [1, 2]) {
      await mkdir(join(folder, `v${value}`));
      await write(value, join(folder, `v${value}`, "limits.conf"));
    }
    await symlink("v1", join(folder, "data"));
    await symlink(join("data", "limits.conf"), path);
    await follow();
    expect(limit()).toBe(1);
    await symlink("v2", join(folder, "data.new"));
    await rename(join(folder, "data.new"), join(folder, "data"));
    expect(await readlink(join(folder, "data"))).toBe("v2");
    await expectLimit(2);
    await write(3, join(folder, "v2", "limits.conf"));
    await expectLimit(3);
  });

  it("sees a file that is included, one that is added to an included folder, and one that was missing", async () => {
    await mkdir(join(folder, "more"));
    await mkdir(join(folder, "parts"));
    await write(1, join(folder, "more", "one.conf"));
    await writeFile(path, 'include "more/one.conf"\ninclude "parts"\n');
    await follow();
    expect(limit()).toBe(1);

    await write(2, join(folder, "more", "one.conf"));
    await expectLimit(2);

    await writeFile(join(folder, "parts", "b.conf"), 'domain "gmail.com" {\n  max_outbound_connections = 3\n}\n');
    await expectLimit(3);

    await appendFile(path, 'include "more/two.conf"\n');
    await vi.waitFor(() => expect(errors).toHaveLength(1), PATIENCE);
    await writeFile(
      join(folder, "more", "two.conf"),
      'binding "mta-1" {\n  domain "gmail.com" {\n    max_outbound_connections = 4\n  }\n}\n',
    );
    await expectLimit(4);
  });

  it("does not read again what has not changed", async () => {
    await write(1);
    await follow();
    await writeFile(join(folder, "unrelated.log"), "a line\n");
    await quiet();
    expect(reloads).toEqual([]);
  });

  it("reads when it is told to, and says whether it could", async () => {
    await write(1);
    await follow();
    expect(await watching?.reload()).toMatchObject({ source: path });
    await unlink(path);
    await expect(watching?.reload()).rejects.toMatchObject({ code: "ERR_LIMITER_POLICY" });
    expect(limit()).toBe(1);
  });

  it("follows no longer once it is closed", async () => {
    await write(1);
    await follow();
    watching?.close();
    await write(2);
    await quiet();
    expect(limit()).toBe(1);
    await expect(watching?.reload()).rejects.toThrow("not watched any more");
  });

  it("rejects when there is nothing to begin with, and changes nothing", async () => {
    await expect(watchPolicy(path, limiter)).rejects.toMatchObject({ code: "ERR_LIMITER_POLICY" });
    await expect(watchPolicy(path, {} as unknown as LocalLimiter)).rejects.toThrow(TypeError);
    await expect(watchPolicy(path, limiter, { pause: -1 })).rejects.toThrow(RangeError);
    expect(limit()).toBe(99);
  });
});
