// watchPolicy: the policy file is edited, and the limiter follows.

import { type FSWatcher, watch } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { type Audience, audienceOf } from "./observer.js";
import { readPolicy } from "./policy/load.js";
import { quietly } from "./quietly.js";
import type { Limiter, Milliseconds, Policy, PolicyWatch, WatchOptions } from "./types.js";

/** Nobody edits longer than this many times the pause without a pause. */
const MOST_PAUSES = 10;

/**
 * Loads a policy file into a limiter, and loads it again whenever the file, one that it includes, or a folder that it
 * includes changes. A policy with mistakes changes nothing: the one before stays in force. Watching does not keep the
 * process alive. Where the system tells of no changes (network file systems), call `reload` yourself.
 *
 * @param path the policy file
 * @param limiter gets every policy that is read without mistakes, by `update`
 * @param options `unknown` as for `loadPolicy`; `pause`, `onReload`, `onError`
 * @returns once the first policy is in force
 * @throws {PolicyError} the first time only: the policy has mistakes, or cannot be read
 * @throws {TypeError} not a limiter
 * @throws {Error} with the system's code, if it cannot watch any more folders
 * @example
 * const watching = await watchPolicy("limits.conf", limiter, { onError: (error) => console.error(String(error)) });
 * process.on("SIGHUP", () => watching.reload().catch(() => {})); // told to onError
 */
export async function watchPolicy(path: string, limiter: Limiter, options: WatchOptions = {}): Promise<PolicyWatch> {
  const { pause = 100 } = options;
  if (!(pause >= 0)) throw new RangeError(`Option pause must be 0 ms or more, not ${pause}`);
  const watcher = new PolicyWatcher(path, limiter, audienceOf(limiter), { ...options, pause });
  try {
    await watcher.start();
  } catch (error) {
    watcher.close();
    throw error;
  }
  return watcher;
}

type Options = WatchOptions & { readonly pause: Milliseconds };

class PolicyWatcher implements PolicyWatch {
  readonly #path: string;
  readonly #limiter: Limiter;
  readonly #audience: Audience;
  readonly #options: Options;
  readonly #folders = new Map<string, FSWatcher>();
  /** What was looked at for the last policy, and how it was then. */
  #looked: ReadonlyMap<string, Promise<string>> = new Map();
  #timer: NodeJS.Timeout | undefined;
  #since: Milliseconds | undefined;
  #running: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(path: string, limiter: Limiter, audience: Audience, options: Options) {
    this.#path = path;
    this.#limiter = limiter;
    this.#audience = audience;
    this.#options = options;
  }

  /** Watches before it reads, so that no edit falls between. */
  start(): Promise<Policy> {
    this.#watch(dirname(resolve(this.#path)));
    return this.#inTurn(() => this.#load());
  }

  reload(): Promise<Policy> {
    if (this.#closed) return Promise.reject(new Error(`${this.#path} is not watched any more`));
    return this.#inTurn(() => this.#told(() => this.#load()));
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const folder of this.#folders.values()) folder.close();
    this.#folders.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** One after the other: an older policy must not come into force after a newer one. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#running.then(work);
    this.#running = result.catch(() => undefined);
    return result;
  }

  async #load(): Promise<Policy> {
    const looked = new Map<string, Promise<string>>();
    const look = (path: string): void => void (looked.has(path) || looked.set(path, stateOf(path)));
    try {
      const policy = await readPolicy(this.#path, this.#options, look);
      if (!this.#closed) this.#limiter.update(policy);
      return policy;
    } finally {
      this.#looked = looked;
      await this.#follow();
      // What changed before it was watched.
      if (await this.#hasChanged()) this.#changed();
    }
  }

  /** Watches where what was looked at is, and nowhere else. */
  async #follow(): Promise<void> {
    const folders = new Set([dirname(resolve(this.#path))]);
    for (const path of this.#looked.keys()) for (const folder of await foldersOf(path)) folders.add(folder);
    for (const [folder, watcher] of this.#folders) {
      if (folders.has(folder)) continue;
      watcher.close();
      this.#folders.delete(folder);
    }
    for (const folder of folders) this.#watch(folder);
  }

  /** The folder and not the file: an editor puts a new file in the place of the old one. */
  #watch(folder: string): void {
    if (this.#closed || this.#folders.has(folder)) return;
    const watcher = watch(folder, { persistent: false }, () => this.#changed());
    watcher.on("error", () => {
      watcher.close();
      this.#folders.delete(folder);
      this.#changed();
    });
    this.#folders.set(folder, watcher);
  }

  /** Something in a folder changed; it is looked at after a pause, as few edits are one write. */
  #changed(): void {
    const { pause } = this.#options;
    const now = performance.now();
    this.#since ??= now;
    if (this.#closed || now - this.#since > pause * MOST_PAUSES) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#since = undefined;
      // Whoever wants to know was told.
      this.#inTurn(() => this.#told(() => this.#loadIfChanged())).catch(() => undefined);
    }, pause).unref();
  }

  async #loadIfChanged(): Promise<Policy | undefined> {
    return (await this.#hasChanged()) && !this.#closed ? this.#load() : undefined;
  }

  async #hasChanged(): Promise<boolean> {
    const changed = [...this.#looked].map(async ([path, state]) => (await stateOf(path)) !== (await state));
    return (await Promise.all(changed)).includes(true);
  }

  async #told<T extends Policy | undefined>(load: () => Promise<T>): Promise<T> {
    const { onReload, onError } = this.#options;
    try {
      const policy = await load();
      if (policy !== undefined && onReload !== undefined) quietly(() => onReload(policy));
      return policy;
    } catch (error) {
      this.#audience.tell("reloadFailed", { policy: this.#path, error });
      if (onError !== undefined) quietly(() => onError(error));
      else process.emitWarning(`The policy was not reloaded: ${String(error)}`, { code: "OUTBOUND_LIMITER_RELOAD" });
      throw error;
    }
  }
}

/** The folders in which it shows that a path is another: a link is in one, and what it leads to in another. */
async function foldersOf(path: string): Promise<readonly string[]> {
  const real = await realpath(path).catch(() => path);
  const folders = [path, dirname(path), dirname(real)].map((folder) => resolve(folder));
  const are = await Promise.all(folders.map(isFolder));
  return folders.filter((_, index) => are[index]);
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** Differs when a file has been written or replaced, or a folder has got other files. */
async function stateOf(path: string): Promise<string> {
  try {
    const { ino, size, mtimeNs } = await stat(path, { bigint: true });
    const names = (await isFolder(path)) ? await readdir(path) : [];
    return [ino, size, mtimeNs, ...names.sort()].join("\0");
  } catch {
    return "missing";
  }
}
