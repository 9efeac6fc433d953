// What the cluster limits need of a Redis client. Each kind of client has a driver of its own.

/** Anything that runs a Lua script: by `EVAL`, or by `EVALSHA` and what it takes to load the script. */
export type RunScript = (script: string, keys: readonly string[], args: readonly string[]) => Promise<unknown>;

export interface Script {
  readonly text: string;
  /** SHA-1 in hexadecimal, as `EVALSHA` wants it. */
  readonly hash: string;
}

type Run = (script: Script, keys: readonly string[], args: readonly string[]) => Promise<unknown>;

export interface Driver {
  /** Everything goes to one server, as far as is known. */
  readonly isSingle: boolean;
  readonly evalsha: Run;
  readonly eval: Run;
  /** Subscribes over a duplicate of the client, which reconnects as the client does. Disposing of it ends it. */
  readonly subscribe?: (channels: readonly string[], events: SubscriberEvents) => Disposable;
}

export interface SubscriberEvents {
  readonly message: (channel: string, text: string) => void;
  /** It is subscribed, or is so again. */
  readonly up: () => void;
  /** It lost its connection, and is getting another. */
  readonly down: () => void;
  /** It gave up, and does not come back. */
  readonly end: (error: unknown) => void;
}

/** Whether an object has all these functions: how clients are told apart. */
export function can<Client>(client: object, functions: readonly (keyof Client & string)[]): client is Client & object {
  return functions.every((name) => typeof (client as Partial<Record<string, unknown>>)[name] === "function");
}
