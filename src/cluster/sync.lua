-- Applies one statement of a member.
--
-- KEYS  the state, and what the member holds: see common.lua
-- ARGV  1 member  2 label  3 sequence  4 epoch it knows  5 flags  6 ttl  7 version of the members it knows
--       8 number of counters held, then counter and slots of each
--       then for each ask: id, count, number of its slots, and counter and limit of each
--       Flags, letters:
--         f  full: what is not mentioned is given back      b  a beat: tell of all counters, if not too many
--         l  the member leaves                              n  the name space is new, if there is no state
--         r  the server did not know this script            t  what PUBLISH returns can be trusted
--         h  the member hears what is published
-- Returns a flat list
--   "stale"
--   "unknown", epoch
--   "ok", epoch, ms left to learn, version, 1 if a hand-over was cut,
--         number of standings, then counter, slots of the member, slots of all and 1 if contended of each
--         number of grants, then ids
--         number of expired members, then ids
--         -1, or number of members, then ids

local id, label, sequence, knownEpoch = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local flags, ttl, knownVersion = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local MOST_TOLD = 4000
local MOST_SPARE = 64
local MOST_EXPIRED = 8

local function is(flag)
  return find(flags, flag, 1, true) ~= nil
end

local leaves, isBeat = is("l"), is("b")
local isFull = is("f") or leaves
caller, trustsPublish = id, is("t")

-- What is stated, and the counters it mentions.

local holds, heldKeys, stated = {}, {}, {}
local mentioned, isMentioned = {}, {}

local function mention(key)
  if isMentioned[key] then return end
  isMentioned[key] = true
  mentioned[#mentioned + 1] = key
end

local at = 9
for _ = 1, tonumber(ARGV[8]) do
  mention(ARGV[at])
  holds[ARGV[at]] = tonumber(ARGV[at + 1])
  heldKeys[#heldKeys + 1] = ARGV[at]
  at = at + 2
end
while at <= #ARGV do
  local ask = { id = ARGV[at], name = ARGV[at] .. " " .. id, member = id, count = tonumber(ARGV[at + 1]), slots = {} }
  local slots = tonumber(ARGV[at + 2])
  at = at + 3
  for slot = 1, slots do
    mention(ARGV[at])
    ask.slots[slot] = { key = ARGV[at], limit = tonumber(ARGV[at + 1]) }
    at = at + 2
  end
  stated[#stated + 1] = ask
end

local function loadCounters(keys)
  local names = {}
  for _, key in ipairs(keys) do
    names[#names + 1] = "t:" .. key
    names[#names + 1] = "q:" .. key
  end
  load(state, names)
end

-- Whether the member is known, and the state can be believed.

local names = { "m:" .. id, "i:" .. id, "l:" .. id, "members" }
for _, key in ipairs(mentioned) do
  names[#names + 1] = "t:" .. key
  names[#names + 1] = "q:" .. key
end
for _, ask in ipairs(stated) do names[#names + 1] = "a:" .. ask.name end
open(ttl, names)
-- One field is the epoch.
local isLarge = (isBeat or leaves) and call("HLEN", own.key) > MOST_TOLD + 1
local tellsOwn = isBeat and not isLarge
if (isFull and not (leaves and isLarge)) or tellsOwn then
  loadAll(own)
else
  local ownNames = { "" }
  for _, key in ipairs(mentioned) do ownNames[#ownNames + 1] = key end
  load(own, ownNames)
end

local known = memberOf(id)
if not get(state, "epoch") then
  -- A member that knows an epoch is a witness that the name space is not new, whatever it was told.
  renew(ttl, is("n") and knownEpoch == "")
  known = nil
elseif isRestored(is("r")) or (known and get(own, "") ~= get(state, "epoch")) then
  renew(ttl, false)
  known = nil
end
local epoch = get(state, "epoch")

if known and sequence <= known.sequence then return { "stale" } end
if not isFull and (not known or knownEpoch ~= epoch) then
  if next(state.changed) ~= nil then close(ttl) end
  return { "unknown", epoch }
end

if get(own, "") ~= epoch and get(own, "") then discard(own) end
if isLine(get(state, "reaping"), id) then set(state, "reaping", without(get(state, "reaping"), id)) end

local function hold(key, slots)
  if slots == number(own, key) then return end
  add(key, slots - number(own, key))
  set(own, key, slots > 0 and slots)
end

local function giveBackAllBut(kept)
  local gone = {}
  for key in pairs(own.values) do
    if key ~= "" and not kept[key] then gone[#gone + 1] = key end
  end
  loadCounters(gone)
  for _, key in ipairs(gone) do hold(key, 0) end
end

local granted = {}

local function collect(sets)
  for _, grant in ipairs(sets) do
    granted[#granted + 1] = grant.id
    for _, slot in ipairs(grant.slots) do
      mention(slot.key)
      set(own, slot.key, number(own, slot.key) + 1)
    end
  end
end

-- How many sets the asks that wait already still want. Returns those that are new.
local function restate(inbox)
  local unseen, unheard = {}, {}
  for _, grant in ipairs(inbox) do unseen[grant.id] = (unseen[grant.id] or 0) + 1 end
  for _, ask in ipairs(stated) do
    -- The member did not know yet what is in its inbox.
    ask.count = ask.count - (unseen[ask.id] or 0)
    local waiting = askOf(ask.name)
    if waiting and ask.count > 0 then
      waiting.count = ask.count
      changedAsks[ask.name] = true
    elseif waiting then
      withdraw(waiting)
    elseif ask.count > 0 then
      unheard[#unheard + 1] = ask
    end
  end
  return unheard
end

local function join(ask)
  local cutKey, fullKey
  local sets = ask.count
  for _, slot in ipairs(ask.slots) do
    local room = free(slot.key, slot.limit)
    if isCut[slot.key] then cutKey = cutKey or slot.key end
    sets = min(sets, max(0, room))
  end
  -- Behind a hand-over that was cut: there may be others who have waited for the slots that seem free.
  if cutKey then sets = 0 end
  for _, slot in ipairs(ask.slots) do
    if sets > 0 then
      add(slot.key, sets)
      set(own, slot.key, number(own, slot.key) + sets)
    end
    if free(slot.key, slot.limit) <= 0 then fullKey = fullKey or slot.key end
  end
  for _ = 1, sets do granted[#granted + 1] = ask.id end
  ask.count = ask.count - sets
  if ask.count == 0 then return true end
  ask.passed, ask.at = 0, fullKey or cutKey
  asks[ask.name] = ask
  set(state, "l:" .. id, (get(state, "l:" .. id) or " ") .. ask.id .. " ")
  enqueue(ask)
  return false
end

-- Some more of what it got at once, where nobody waits: it may need them soon, and then need not ask.
local function giveSpare(ended)
  local members = #linesOf(get(state, "members"))
  local isDone = {}
  for _, slots in ipairs(ended) do
    for _, slot in ipairs(slots) do
      if not isDone[slot.key] and #lineAt(slot.key) == 0 then
        isDone[slot.key] = true
        local spare = min(MOST_SPARE, floor(free(slot.key, slot.limit) / 2 / members))
        if spare > 0 then hold(slot.key, number(own, slot.key) + spare) end
      end
    end
  end
end

if leaves and isLarge and get(own, "") == epoch then
  -- Given back in parts, see reap.lua.
  if known then forgetMember(id) end
  set(state, "reaping", with(get(state, "reaping"), id))
  mentioned = {}
  serve()
elseif leaves then
  giveBackAllBut({})
  mentioned = {}
  if known then forgetMember(id) end
  serve()
  discard(own)
else
  set(own, "", epoch)
  if not known then
    set(state, "members", with(get(state, "members"), id))
    set(state, "version", number(state, "version") + 1)
  end
  set(state, "m:" .. id, clock .. " " .. ttl .. " " .. sequence .. (is("h") and " 1 " or " 0 ") .. label)
  if not get(state, "sweep") or number(state, "sweep") > clock + ttl then set(state, "sweep", clock + ttl) end

  if isFull then
    -- If it saw what it was granted, it has stated it.
    emptyInbox(id)
    giveBackAllBut(holds)
    local isRestated = {}
    for _, ask in ipairs(stated) do isRestated[ask.id] = true end
    for ask in gmatch(get(state, "l:" .. id) or "", "%d+") do
      if not isRestated[ask] then withdraw(askOf(ask .. " " .. id)) end
    end
  end
  for _, key in ipairs(heldKeys) do hold(key, holds[key]) end
  local inbox = inboxOf(id)
  local unheard = restate(inbox)
  serve()
  collect(inbox)
  set(state, "i:" .. id, false)
  collect(grants)
  if not isLearning() then
    local ended = {}
    for _, grant in ipairs(grants) do
      if grant.isLast then ended[#ended + 1] = grant.slots end
    end
    for _, ask in ipairs(unheard) do
      if join(ask) then ended[#ended + 1] = ask.slots end
    end
    giveSpare(ended)
  end
  if isBeat then
    if tellsOwn then
      for key, slots in pairs(own.values) do
        if key ~= "" and slots then mention(key) end
      end
    end
    for ask in gmatch(get(state, "l:" .. id) or "", "%d+") do
      for _, slot in ipairs(askOf(ask .. " " .. id).slots) do mention(slot.key) end
    end
    loadCounters(mentioned)
  end
end

-- Members without a sign of life, and those whose slots are still being given back. Looked for when one may be due.
local function expired()
  local found = linesOf(get(state, "reaping"))
  if clock < number(state, "sweep") then return found end
  local ids, memberNames, late, sweep = linesOf(get(state, "members")), {}, {}, nil
  for index, other in ipairs(ids) do memberNames[index] = "m:" .. other end
  load(state, memberNames)
  for _, other in ipairs(ids) do
    local member = memberOf(other)
    local expiry = member.seen + member.ttl
    if expiry <= clock then late[#late + 1] = other end
    sweep = min(sweep or expiry, expiry)
  end
  set(state, "sweep", sweep or false)
  table.sort(late)
  for _, other in ipairs(late) do found[#found + 1] = other end
  return found
end

local late = expired()
local reply = { "ok", epoch, max(0, number(state, "learn") - clock), number(state, "version"), #cut > 0 and 1 or 0 }

local function tell(value)
  reply[#reply + 1] = value
end

tell(#mentioned)
for _, key in ipairs(mentioned) do
  tell(key)
  tell(number(own, key))
  tell(total(key))
  tell(isContended(key, id) and 1 or 0)
end
tell(#granted)
for _, ask in ipairs(granted) do tell(ask) end
local lateCount = min(MOST_EXPIRED, #late)
tell(lateCount)
for index = 1, lateCount do tell(late[index]) end
if knownVersion == number(state, "version") and knownEpoch == epoch then
  tell(-1)
else
  local ids = linesOf(get(state, "members"))
  tell(#ids)
  for _, other in ipairs(ids) do tell(other) end
end
close(ttl)
return reply
