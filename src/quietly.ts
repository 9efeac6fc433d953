// Calls into callers' code where slots are under way: what it throws is told, and costs nothing else.

import debug from "debug";

const log = debug("outbound-limiter:limiter");

const toDebug = (error: unknown): void => log("a caller's clock, signal or observer failed: %o", error);

export function quietly(call: () => void, tell: (error: unknown) => void = toDebug): void {
  try {
    call();
  } catch (error) {
    tell(error);
  }
}
