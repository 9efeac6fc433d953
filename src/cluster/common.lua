-- What all scripts share; its text goes before each of them. The rules are those of ledger.ts and queues.ts.
--
-- KEYS[1]  {prefix}           hash, the state of the name space. In one key, so that whatever loses it loses the epoch too.
-- KEYS[2]  {prefix}:<member>  hash, what one member holds: slots by counter; "" is the epoch in which it said so.
--
-- Fields of the state. Names of counters and members contain no line feed and are not empty.
--   run epoch          the server's run_id, and what it was called when the state began
--   clock wall         logical milliseconds, and the server's time at that moment
--   learn              time until which nothing is granted
--   members version    ids, a line each, and the version of that list
--   reaping            ids of former members whose slots are being given back, a line each
--   sweep              time until which nobody expires
--   m:<member>         seen ttl sequence listens label
--   t:<counter>        slots in use
--   q:<counter>        who waits, in order, a line each: id limit member
--   l:<member>         ids of the asks of a member that wait
--   a:<id> <member>    an ask, in lines: count, passed, counter in whose queue it is, then counter and limit of each slot
--   i:<member>         granted and not seen: lines of id and number of slots, each followed by the counters, a line each
--   keeper             <id> <member> of the ask that keeps slots
--   cut                counters whose hand-over was cut short, a line each

-- More than a few thousand values do not fit on the stack of Lua.
local MOST_FIELDS = 1000

local call = redis.call
local find, gmatch, match = string.find, string.gmatch, string.match
local floor, min, max = math.floor, math.min, math.max

-- ── Hashes, each field read once and written once ──

local function openHash(key)
  return { key = key, values = {}, changed = {}, isComplete = false }
end

local state = openHash(KEYS[1])
local own = openHash(KEYS[2])

local function load(hash, names)
  if hash.isComplete then return end
  for from = 1, #names, MOST_FIELDS do
    local values = call("HMGET", hash.key, unpack(names, from, min(from + MOST_FIELDS - 1, #names)))
    for at, value in ipairs(values) do
      local name = names[from + at - 1]
      if hash.values[name] == nil then hash.values[name] = value end
    end
  end
end

local function loadAll(hash)
  local flat = call("HGETALL", hash.key)
  for at = 1, #flat, 2 do hash.values[flat[at]] = flat[at + 1] end
  hash.isComplete = true
end

-- The value, or false.
local function get(hash, name)
  local value = hash.values[name]
  if value == nil then
    value = not hash.isComplete and call("HGET", hash.key, name)
    hash.values[name] = value
  end
  return value
end

-- A value of false takes the field out.
local function set(hash, name, value)
  if get(hash, name) == value then return end
  hash.values[name] = value
  hash.changed[name] = true
end

local function write(hash)
  local gone, kept = {}, {}
  for name in pairs(hash.changed) do
    local value = hash.values[name]
    if value == false then
      gone[#gone + 1] = name
    else
      kept[#kept + 1] = name
      kept[#kept + 1] = value
    end
  end
  -- Taking out first: a server without memory left takes the rest of a script that freed some.
  for from = 1, #gone, MOST_FIELDS do
    call("HDEL", hash.key, unpack(gone, from, min(from + MOST_FIELDS - 1, #gone)))
  end
  for from = 1, #kept, MOST_FIELDS do
    call("HSET", hash.key, unpack(kept, from, min(from + MOST_FIELDS - 1, #kept)))
  end
end

local function discard(hash)
  call("UNLINK", hash.key)
  hash.values, hash.changed, hash.isComplete = {}, {}, true
end

local function number(hash, name)
  return tonumber(get(hash, name) or 0)
end

-- Iterates over nothing.
local function nothing()
  return nil
end

local function linesOf(text)
  local lines = {}
  for line in text and gmatch(text, "[^\n]+") or nothing do lines[#lines + 1] = line end
  return lines
end

local function isLine(text, line)
  return text and find("\n" .. text .. "\n", "\n" .. line .. "\n", 1, true) ~= nil
end

-- The text without that line, or false if it had no other.
local function without(text, line)
  local kept = {}
  for _, other in ipairs(linesOf(text)) do
    if other ~= line then kept[#kept + 1] = other end
  end
  return #kept > 0 and table.concat(kept, "\n")
end

local function with(text, line)
  return text and text .. "\n" .. line or line
end

-- ── Time and epoch ──

local clock, wall, run
local cut, isCut = {}, {}

-- Reads what every script needs, and more fields of the state; moves the clock on.
local function open(ttl, more)
  local names = { "run", "epoch", "clock", "wall", "learn", "version", "sweep", "keeper", "cut", "reaping" }
  for _, name in ipairs(more) do names[#names + 1] = name end
  load(state, names)
  local time = call("TIME")
  wall = time[1] * 1000 + floor(time[2] / 1000)
  -- However the server's clock jumps: nobody expires by more than this at once.
  clock = number(state, "clock") + min(max(0, wall - number(state, "wall")), floor(ttl / 4))
  for _, key in ipairs(linesOf(get(state, "cut"))) do
    cut[#cut + 1] = key
    isCut[key] = true
  end
  local info = redis.pcall("INFO", "server")
  run = type(info) == "string" and match(info, "run_id:(%w+)") or ""
end

-- Whether the state may be older than what members were told. `isFresh`: the server did not know the script; that says
-- so where INFO is forbidden.
local function isRestored(isFresh)
  if run == "" then return isFresh end
  return get(state, "run") ~= run
end

-- Begins with nothing. Until `learn` members say what they hold, and nobody is granted anything.
local function renew(ttl, isNew)
  discard(state)
  clock, cut, isCut = 0, {}, {}
  set(state, "run", run)
  local time = call("TIME")
  set(state, "epoch", time[1] .. "." .. time[2] .. "-" .. string.sub(run, 1, 8))
  set(state, "learn", isNew and 0 or ttl)
end

local function isLearning()
  return clock < number(state, "learn")
end

-- ── Members ──

local function memberOf(id)
  local text = get(state, "m:" .. id)
  if not text then return nil end
  local seen, ttl, sequence, listens, label = match(text, "^(%S+) (%S+) (%S+) (%S+) (.*)$")
  return { seen = tonumber(seen), ttl = tonumber(ttl), sequence = tonumber(sequence), listens = listens == "1", label = label }
end
