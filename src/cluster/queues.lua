-- Who waits for which counter, and who gets a slot that comes free. Goes after common.lua, whose names it uses.

local MOST_TRIES = 64
local MOST_PASSES = 16

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
