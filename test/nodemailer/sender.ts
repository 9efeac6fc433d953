// A process that sends two messages and exits in the middle when it is told to, for exit.test.ts. Arguments: the server of
// the cluster, the port of the receiver, and whether the transport is pooled.

import { Redis } from "ioredis";
import { createTransport, type SendMailOptions } from "nodemailer";
import { createLimiter, parsePolicy } from "../../src/index.js";
import { limitedSocket } from "../../src/nodemailer.js";
import { redisCluster } from "../../src/redis.js";

const [url = "", port = "", pool = ""] = process.argv.slice(2);
const cluster = redisCluster(new Redis(url), { ttl: 3000 });
const limiter = createLimiter(parsePolicy("cluster_server_max_outbound_connections = 2"), { cluster });
const getSocket = limitedSocket(limiter, () => ({ domain: "example.com" }));
const transport = createTransport({ host: "127.0.0.1", port: Number(port), pool: pool === "pooled", getSocket });
const mail: SendMailOptions = { from: "us@sender.example", to: "you@example.com", text: "Hello" };

process.on("message", () => process.exit());
await Promise.all([transport.sendMail(mail), transport.sendMail(mail)]);
