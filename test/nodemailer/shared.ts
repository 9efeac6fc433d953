// What the tests of nodemailer share: its versions, a transport, a receiver, a message.

import { createRequire } from "node:module";
import type { SendMailOptions } from "nodemailer";
import { onTestFinished } from "vitest";
import type { Dial } from "../../src/nodemailer.js";
import { type Behaviour, type Receiver, startReceiver } from "../smtp/receiver.js";

export const VERSIONS = ["nodemailer6", "nodemailer7", "nodemailer8", "nodemailer9", "nodemailer"] as const;
export const NEWEST = "nodemailer";
export type Version = (typeof VERSIONS)[number];

export const MAIL: SendMailOptions = { from: "us@sender.example", to: "you@example.com", text: "Hello" };

export interface Transport {
  getSocket?: Dial | false;
  sendMail(mail: SendMailOptions): Promise<unknown>;
  verify(): Promise<true>;
  close(options?: { readonly force?: boolean }): void;
}

/** Not imported: the newest has types of its own, which the README's examples are checked with. */
const load = createRequire(import.meta.url) as unknown as (name: Version) => {
  readonly createTransport: (options: object) => Transport;
};

/** A transport to loopback, closed with its test. */
export function transportOf(version: Version, options: object): Transport {
  const transport = load(version).createTransport({ host: "127.0.0.1", ...options });
  onTestFinished(() => transport.close());
  return transport;
}

/** A receiver on loopback, closed with its test. */
export async function receiver(behaviour: Behaviour = {}): Promise<Receiver> {
  const started = await startReceiver("127.0.0.1", behaviour);
  onTestFinished(() => started[Symbol.asyncDispose]());
  return started;
}
