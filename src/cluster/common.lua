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

local MOST_TRIES = 64
local MOST_PASSES = 16
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

-- ── Queues ──

local caller, trustsPublish
-- Sets granted to the caller in this call: lists of counters with `id` and `isLast`.
local grants = {}
-- Members that were told in this call: whether they listen.
local told = {}
local lines, changedLines = {}, {}
local asks, changedAsks = {}, {}
local freed = {}
local triesLeft = 0

local function total(key)
  return number(state, "t:" .. key)
end

local function add(key, slots)
  if slots == 0 then return end
  local sum = total(key) + slots
  set(state, "t:" .. key, sum > 0 and sum)
  if slots < 0 then freed[key] = true end
end

-- Who waits for a counter, in order.
local function lineAt(key)
  local line = lines[key]
  if line == nil then
    line = {}
    local text = get(state, "q:" .. key)
    for id, limit, member in text and gmatch(text, "(%d+) (%S+) ([^\n]+)") or nothing do
      line[#line + 1] = { id = id, limit = tonumber(limit), member = member, name = id .. " " .. member }
    end
    lines[key] = line
  end
  return line
end

local function setLine(key, line)
  lines[key] = line
  changedLines[key] = true
end

local function isContended(key, member)
  if not lines[key] and not get(state, "q:" .. key) then return false end
  for _, entry in ipairs(lineAt(key)) do
    if entry.member ~= member then return true end
  end
  return false
end

-- The ask that waits under this name, or false.
local function askOf(name)
  local ask = asks[name]
  if ask == nil then
    local text = get(state, "a:" .. name)
    if text then
      local parts = linesOf(text)
      local id, member = match(name, "^(%d+) (.*)$")
      ask = { name = name, id = id, member = member, slots = {} }
      ask.count, ask.passed, ask.at = tonumber(parts[1]), tonumber(parts[2]), parts[3]
      for at = 4, #parts, 2 do ask.slots[#ask.slots + 1] = { key = parts[at], limit = tonumber(parts[at + 1]) } end
    end
    ask = ask or false
    asks[name] = ask
  end
  return ask
end

local function keeper()
  local name = get(state, "keeper")
  return name and askOf(name)
end

local function limitAt(ask, key)
  for _, slot in ipairs(ask.slots) do
    if slot.key == key then return slot.limit end
  end
  return nil
end

local function isKeptAt(key)
  local ask = keeper()
  return ask and limitAt(ask, key) ~= nil
end

-- Slots of a counter that are free for whoever is not the keeper.
local function free(key, limit)
  return limit - total(key) - (isKeptAt(key) and 1 or 0)
end

local function hasRoom(name, key, limit)
  if name == get(state, "keeper") then return limit > total(key) end
  return free(key, limit) > 0
end

local function publish(channel, text)
  local reached = redis.pcall("PUBLISH", channel, text)
  -- Where that is forbidden, nobody knows who listens.
  return type(reached) ~= "number" or reached > 0
end

local function enqueue(ask)
  local line, first, isAlone, isThere = lineAt(ask.at), nil, true, false
  for _, entry in ipairs(line) do
    first = first or entry.member
    isAlone = isAlone and entry.member == first
    isThere = isThere or entry.member == ask.member
  end
  line[#line + 1] = { id = ask.id, limit = limitAt(ask, ask.at), member = ask.member, name = ask.name }
  setLine(ask.at, line)
  changedAsks[ask.name] = true
  if isAlone and not isThere then publish(KEYS[1] .. ":push", ask.member .. "\n" .. ask.at) end
end

local function dequeue(ask)
  local line = {}
  for _, entry in ipairs(lineAt(ask.at)) do
    if entry.name ~= ask.name then line[#line + 1] = entry end
  end
  setLine(ask.at, line)
end

local function endKeeping(ask)
  set(state, "keeper", false)
  for _, slot in ipairs(ask.slots) do freed[slot.key] = true end
end

local function forgetAsk(ask)
  asks[ask.name] = false
  changedAsks[ask.name] = true
  local list = string.gsub(get(state, "l:" .. ask.member) or "", " " .. ask.id .. " ", " ", 1)
  set(state, "l:" .. ask.member, list ~= " " and list ~= "" and list)
  if get(state, "keeper") == ask.name then endKeeping(ask) end
end

local function withdraw(ask)
  dequeue(ask)
  forgetAsk(ask)
end

-- Nothing was heard of the member for two and a half beats, of which a ttl has five.
local function isSilent(id)
  local member = memberOf(id)
  return member == nil or clock - member.seen > member.ttl / 2
end

-- The member gets one set of its ask, unless it can be told and does not listen: then false.
local function give(ask)
  if ask.member == caller then
    local grant = { id = ask.id, isLast = ask.count == 1, slots = ask.slots }
    grants[#grants + 1] = grant
    return true
  end
  if told[ask.member] == nil then
    local reached = publish(KEYS[1] .. ":" .. ask.member .. ":push", "granted")
    told[ask.member] = reached or not trustsPublish or not memberOf(ask.member).listens
  end
  if not told[ask.member] then return false end
  local inbox = with(get(state, "i:" .. ask.member), ask.id .. " " .. #ask.slots)
  for _, slot in ipairs(ask.slots) do inbox = inbox .. "\n" .. slot.key end
  set(state, "i:" .. ask.member, inbox)
  return true
end

-- The sets in an inbox: lists of counters with `id`.
local function inboxOf(id)
  local inbox, left = {}, 0
  for _, line in ipairs(linesOf(get(state, "i:" .. id))) do
    if left > 0 then
      local grant = inbox[#inbox]
      grant.slots[#grant.slots + 1] = { key = line }
      left = left - 1
    else
      local ask, slots = match(line, "^(%d+) (%d+)$")
      inbox[#inbox + 1] = { id = ask, slots = {} }
      left = tonumber(slots)
    end
  end
  return inbox
end

local function emptyInbox(id)
  for _, grant in ipairs(inboxOf(id)) do
    for _, slot in ipairs(grant.slots) do add(slot.key, -1) end
  end
  set(state, "i:" .. id, false)
end

-- One set of the ask was given. The other asks of its member go to the end of the queue, and then it: members take turns.
local function granted(ask)
  for _, slot in ipairs(ask.slots) do add(slot.key, 1) end
  ask.count, ask.passed = ask.count - 1, 0
  changedAsks[ask.name] = true
  local line, mine, same = {}, {}, nil
  for _, entry in ipairs(lineAt(ask.at)) do
    if entry.member ~= ask.member then
      line[#line + 1] = entry
    elseif entry.name ~= ask.name then
      mine[#mine + 1] = entry
    else
      same = entry
    end
  end
  for _, entry in ipairs(mine) do line[#line + 1] = entry end
  if ask.count > 0 then line[#line + 1] = same end
  setLine(ask.at, line)
  if ask.count == 0 then
    forgetAsk(ask)
  elseif get(state, "keeper") == ask.name then
    endKeeping(ask)
  end
end

local function passOver(ask, key)
  dequeue(ask)
  ask.at, ask.passed = key, ask.passed + 1
  enqueue(ask)
  if ask.passed >= MOST_PASSES and not get(state, "keeper") then set(state, "keeper", ask.name) end
end

local function try(ask)
  if isSilent(ask.member) then return withdraw(ask) end
  for _, slot in ipairs(ask.slots) do
    if not hasRoom(ask.name, slot.key, slot.limit) then return passOver(ask, slot.key) end
  end
  if give(ask) then granted(ask) else withdraw(ask) end
end

-- The keeper if it needs this counter, or the first in its queue for which it has room.
local function nextAt(key)
  local ask = keeper()
  if ask and limitAt(ask, key) and limitAt(ask, ask.at) > total(ask.at) then return ask end
  for _, entry in ipairs(lineAt(key)) do
    if hasRoom(entry.name, key, entry.limit) then return askOf(entry.name) end
  end
  return nil
end

local function serveAt(key)
  local ask = nextAt(key)
  while ask do
    if triesLeft == 0 then
      if not isCut[key] then cut[#cut + 1] = key end
      isCut[key] = true
      return
    end
    triesLeft = triesLeft - 1
    try(ask)
    ask = nextAt(key)
  end
end

-- Hands on what came free, first what was cut.
local function serve()
  if isLearning() then return end
  triesLeft = MOST_TRIES
  local first = cut
  cut, isCut = {}, {}
  for _, key in ipairs(first) do serveAt(key) end
  while next(freed) ~= nil do
    local names, keys = {}, {}
    for key in pairs(freed) do names[#names + 1] = "q:" .. key end
    load(state, names)
    for key in pairs(freed) do
      if get(state, "q:" .. key) or changedLines[key] or isKeptAt(key) then keys[#keys + 1] = key end
    end
    freed = {}
    table.sort(keys)
    for _, key in ipairs(keys) do serveAt(key) end
  end
end

-- No longer a member: all but what it holds is given back.
local function forgetMember(id)
  emptyInbox(id)
  for ask in gmatch(get(state, "l:" .. id) or "", "%d+") do withdraw(askOf(ask .. " " .. id)) end
  set(state, "m:" .. id, false)
  set(state, "members", without(get(state, "members"), id))
  set(state, "version", number(state, "version") + 1)
end

-- Writes everything. `ttl` of the name space: nothing is left some time after the last process is gone.
local function close(ttl)
  for key in pairs(changedLines) do
    local texts = {}
    for at, entry in ipairs(lines[key]) do texts[at] = entry.id .. " " .. entry.limit .. " " .. entry.member end
    set(state, "q:" .. key, #texts > 0 and table.concat(texts, "\n"))
  end
  for name in pairs(changedAsks) do
    local ask = asks[name]
    local parts = ask and { ask.count, ask.passed, ask.at } or {}
    for _, slot in ipairs(ask and ask.slots or {}) do
      parts[#parts + 1] = slot.key
      parts[#parts + 1] = slot.limit
    end
    set(state, "a:" .. name, ask and table.concat(parts, "\n"))
  end
  set(state, "cut", #cut > 0 and table.concat(cut, "\n"))
  set(state, "clock", clock)
  set(state, "wall", wall)
  write(state)
  write(own)
  call("PEXPIRE", state.key, 4 * ttl)
  call("PEXPIRE", own.key, 4 * ttl)
end
