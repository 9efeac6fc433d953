// The Lua scripts that run on the engine. A build puts their texts in this place, without comments (tsup.config.ts).

import { readFileSync } from "node:fs";

const read = (name: string): string => readFileSync(new URL(`${name}.lua`, import.meta.url), "utf8");
const common = read("common");
const queues = read("queues");

/** Applies a statement. */
export const SYNC: string = common + queues + read("sync");
/** Gives back what a silent member held. */
export const REAP: string = common + queues + read("reap");
/** Lists the members. Writes nothing. */
export const MEMBERS: string = common + read("members");
