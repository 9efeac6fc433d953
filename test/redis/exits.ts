// A process that uses a client and then closes it, for clients.test.ts: nothing of ours may keep it running.
// Arguments: the library, what to do, a process id to freeze or 0, the addresses.

import { EventEmitter, once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "../../src/cluster/clients.js";
import { LIBRARIES } from "./libraries.js";

const [name, kind, pid, ...urls] = process.argv.slice(2);
const library = LIBRARIES.find((each) => each.name === name);
if (library === undefined) throw new Error(`no library ${name}`);
const opened = await (kind === "cluster" ? library.openCluster(urls) : library.open(String(urls[0])));
const client = new Client(opened.client, 500);
await client.call("return 1", ["{exits}"], () => []);

if (Number(pid) > 0) process.kill(Number(pid), "SIGSTOP");
const events = new EventEmitter();
const begun = once(events, "begin");
const listening = client.listen(["exits"], { message: () => {}, begin: () => events.emit("begin") });
await (Number(pid) > 0 ? sleep(300) : begun);
if (Number(pid) > 0) await client.call("return 2", ["{exits}"], () => []).catch(() => {});

listening?.[Symbol.dispose]();
opened[Symbol.dispose]();
process.stdout.write("closed\n");
