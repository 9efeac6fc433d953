// An engine whose clock steps. Its scripts are made to read another time than the server's, as no program that fakes the
// clock of another (libfaketime) gets on with redis-server; and what would have expired by such a step is taken away.

import type { RedisServer } from "../redis/server.js";
import type { Patch } from "./rig.js";

/** To build senders with. */
export const CLOCK_PATCH: Patch = {
  file: "cluster/common.lua",
  from: `  wall = time[1] * 1000 + floor(time[2] / 1000)\n`,
  to: `  wall = time[1] * 1000 + floor(time[2] / 1000) + (call("GET", KEYS[1] .. "step") or 0)\n`,
};

const STEP = `
local before = redis.call("GET", KEYS[1] .. "step") or 0
redis.call("SET", KEYS[1] .. "step", ARGV[1])
for _, key in ipairs(redis.call("KEYS", KEYS[1] .. "*")) do
  local left = redis.call("PTTL", key)
  if left >= 0 and left < ARGV[1] - before then redis.call("DEL", key) end
end`;

/** The clock of the engine is from now on so many milliseconds before or after the real one, for the senders of a prefix. */
export async function step(redis: RedisServer, prefix: string, by: number): Promise<void> {
  await redis.command("EVAL", STEP, 1, `{${prefix}}`, by);
}
