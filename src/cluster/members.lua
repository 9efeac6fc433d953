-- Lists the members. Writes nothing.
--
-- KEYS  1 the state, then for each member that the caller knows of what it holds: see common.lua
-- ARGV  1 ttl, then the ids of the members of KEYS[2] and on
-- Returns a flat list
--   "again", and the ids of the members: there are others than those named
--   "ok", then of each member: id, label, ms since its last statement, number of its counters, and counter and slots of each

local ttl = tonumber(ARGV[1])
local keyOf = {}
for at = 2, #ARGV do keyOf[ARGV[at]] = KEYS[at] end

open(ttl, { "members" })
local ids = linesOf(get(state, "members"))
for _, id in ipairs(ids) do
  if not keyOf[id] then return { "again", unpack(ids) } end
end

local reply = { "ok" }
for _, id in ipairs(ids) do
  local member = memberOf(id)
  local flat = call("HGETALL", keyOf[id])
  local holds = {}
  for at = 1, #flat, 2 do
    if flat[at] ~= "" then
      holds[#holds + 1] = flat[at]
      holds[#holds + 1] = flat[at + 1]
    end
  end
  for _, value in ipairs({ id, member.label, clock - member.seen, #holds / 2 }) do reply[#reply + 1] = value end
  for _, value in ipairs(holds) do reply[#reply + 1] = value end
end
return reply
