// What is each member's part of a limit when every one of them is alone.

/**
 * The limit divided by the members, and what is left over dealt out one by one, for each counter from another member on.
 * At least 1, so with more members than the limit has slots the parts are more than the limit.
 */
export function shareOf(limit: number, key: string, member: string, members: readonly string[]): number {
  if (limit === 0) return 0;
  const count = Math.max(1, members.length);
  const rank = Math.max(0, members.indexOf(member));
  const turn = (rank + count - (hash(key) % count)) % count;
  return Math.max(1, Math.floor(limit / count) + (turn < limit % count ? 1 : 0));
}

/** FNV-1a: any will do that is the same in all processes. */
function hash(text: string): number {
  let hashed = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) hashed = Math.imul(hashed ^ text.charCodeAt(at), 0x01000193);
  return hashed >>> 0;
}
