// Names of domains, hosts, bindings and groups: what is legal, and the one form in which names are compared.

import { isIP } from "node:net";
import { domainToASCII } from "node:url";

/** A name in its normal form, or what is wrong with it. */
export type NameOrProblem = { readonly name: string } | { readonly problem: string };

const MOST_OCTETS = 253;
// biome-ignore lint/suspicious/noControlCharactersInRegex: refusing them is what this is for
const BLANK_OR_CONTROL = /[\s\u0000-\u001f\u007f-\u009f]/;
const ASCII = /^[\u0021-\u007e]*$/;

/**
 * The normal form of a domain or host: lower case, no trailing dot, ASCII (IDNA), addresses bare and canonical.
 * Pure: `domainToASCII` and `isIP` compute, they do not look anything up.
 */
export function normalName(raw: string): NameOrProblem {
  if (raw === "") return { problem: "is empty" };
  if (raw.length > MOST_OCTETS + 1) return { problem: `is longer than ${MOST_OCTETS} octets` };
  if (BLANK_OR_CONTROL.test(raw)) return { problem: "holds white space or a control character" };
  if (raw.startsWith("[") || raw.includes(":")) return address(raw);
  // `domainToASCII` is for URLs: of an ASCII name it would make 1.2.0.3 out of 1.2.3, and cut it at a slash.
  const ascii = ASCII.test(raw) ? raw.toLowerCase() : international(raw);
  if (ascii === undefined) return { problem: "is not a valid international name" };
  const name = ascii.endsWith(".") ? ascii.slice(0, -1) : ascii;
  if (name === "" || name.startsWith(".") || name.endsWith(".") || name.includes(".."))
    return { problem: "has an empty label" };
  if (name.length > MOST_OCTETS) return { problem: `is longer than ${MOST_OCTETS} octets` };
  return { name };
}

function international(raw: string): string | undefined {
  // Beside its international letters such a name may hold only what a host name may; the rest means something in a URL.
  if (/[^\u0080-\uffff\w.-]/.test(raw)) return undefined;
  const ascii = domainToASCII(raw);
  return ascii === "" || isIP(ascii) !== 0 ? undefined : ascii;
}

function address(raw: string): NameOrProblem {
  const literal = /^\[(?:IPv6:)?(.*)\]$/i.exec(raw);
  const bare = literal?.[1] ?? raw;
  const version = bare.includes("%") ? 0 : isIP(bare);
  if (version === 4 && !/^\[IPv6:/i.test(raw)) return { name: bare };
  // The URL parser is the one canonical writer of IPv6 addresses that every JavaScript engine has.
  if (version === 6) return { name: new URL(`http://[${bare}]`).hostname.slice(1, -1) };
  return { problem: "is not an address" };
}

/** What is wrong with the name of a binding or of a group, or undefined. They are compared as they are written. */
export function identityProblem(raw: string): string | undefined {
  if (raw === "") return "is empty";
  if (BLANK_OR_CONTROL.test(raw)) return "holds white space or a control character";
  if (raw.includes(":")) return "holds a colon";
  return undefined;
}
