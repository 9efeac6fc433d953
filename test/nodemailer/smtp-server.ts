// A process with an SMTP server that takes 2 connections and answers 421 to more, for refusals.test.ts. Argument: whether
// it is under TLS from the start. It tells its port.

import { SMTPServer } from "smtp-server";

const server = new SMTPServer({
  secure: process.argv[2] === "secure",
  maxClients: 2,
  authOptional: true,
  disableReverseLookup: true,
  onData(stream, _, callback) {
    stream.resume();
    stream.on("end", () => setTimeout(callback, 5));
  },
});
server.on("error", () => {}); // of connections that break off
const listening = server.listen(0, "127.0.0.1", () => process.send?.(listening.address()));
process.on("disconnect", () => process.exit());
