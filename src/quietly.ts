// Calls into callers' code where slots are under way: what it throws is told to `debug`, and costs nothing else.

import debug from "debug";

const log = debug("outbound-limiter:limiter");

export function quietly(call: () => void): void {
  try {
    call();
  } catch (error) {
    log("a caller's clock, signal or observer failed: %o", error);
  }
}
