// Ports for servers that have to be told theirs.

import { once } from "node:events";
import { createServer } from "node:net";

/** Below those that systems give to outgoing connections: there one may be taken before the server listens, or starts again. */
const [FIRST, LAST] = [15_000, 32_000];

/** A port of this machine that nobody listens on now; drawn, as others may be looking for one at the same time. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    const server = createServer().listen(port);
    try {
      await once(server, "listening");
    } catch (error) {
      if ((error as { code?: unknown }).code === "EADDRINUSE") continue;
      throw error;
    }
    server.close();
    await once(server, "close");
    return port;
  }
}
