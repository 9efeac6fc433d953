-- Gives back what a silent member held, some of it in each call; does nothing if the member made itself heard.
--
-- KEYS  the state, and what the silent member holds: see common.lua
-- ARGV  1 member  2 ttl  3 flags: "r" the server did not know this script, "t" what PUBLISH returns can be trusted
-- Returns 1 if it has to be called again, else 0

local id, ttl, flags = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local MOST_COUNTERS = 2000

trustsPublish = find(flags, "t", 1, true) ~= nil
open(ttl, { "m:" .. id, "i:" .. id, "l:" .. id, "members" })
local member = memberOf(id)
local isReaping = isLine(get(state, "reaping"), id)
if not get(state, "epoch") or not (member or isReaping) then return 0 end
if isRestored(find(flags, "r", 1, true) ~= nil) or get(own, "") ~= get(state, "epoch") then
  -- Totals are not what members hold.
  renew(ttl, false)
  close(ttl)
  return 0
end
if member and clock < member.seen + member.ttl then return 0 end

if member then
  forgetMember(id)
  set(state, "reaping", with(get(state, "reaping"), id))
end

local keys, names, cursor = {}, {}, "0"
repeat
  local page = call("HSCAN", own.key, cursor, "COUNT", MOST_COUNTERS)
  cursor = page[1]
  for at = 1, #page[2], 2 do
    local key = page[2][at]
    if key ~= "" and own.values[key] == nil then
      own.values[key] = page[2][at + 1]
      keys[#keys + 1] = key
      names[#names + 1] = "t:" .. key
      names[#names + 1] = "q:" .. key
    end
  end
until cursor == "0" or #keys >= MOST_COUNTERS
load(state, names)
for _, key in ipairs(keys) do
  add(key, -number(own, key))
  set(own, key, false)
end
serve()
if cursor == "0" then
  set(state, "reaping", without(get(state, "reaping"), id))
  discard(own)
end
close(ttl)
return cursor == "0" and 0 or 1
