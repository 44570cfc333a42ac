"""What runs inside the server: one script that writes, a few that read.

A script is told its partition by ``KEYS[1]``, the key ``meta``. Which other keys it touches depends on what is stored
(the logs of a record, the sets that know it), so it makes their names itself, from the same hash tag: they lie in the
same slot by construction. What keeps it from running while that slot is on its way to another node is ``KEYS[2]``, see
``Layout.script_keys``.

Numbers in Lua are floats: versions and numbers of entries stay below 2**53, times do not, so they are compared and
moved on as texts of 18 digits. Documents are carried, never looked into.
"""

from __future__ import annotations

from unified_storage.backends.redis.client import Script

PARTITION = r"""
local base = string.sub(KEYS[1], 1, -5)
local arguments, at = ARGV, 0
local function take() at = at + 1 return arguments[at] end

local luatype = type

local function record_key(type, id) return base .. 'r:' .. type .. ':' .. id end

-- A head: 1 incarnation, 2 version, 3 version when it was written, 4 created, 5 updated, 6 expires or '',
-- 7 session_id or '', 8 thread_id or ''.
local function is_head(head)
  if luatype(head) ~= 'table' or #head ~= 8 then return false end
  for field = 1, 8 do
    if luatype(head[field]) ~= (field < 4 and 'number' or 'string') then return false end
  end
  return true
end

-- The head of a record, false where there is none; an error that names the record where nobody can read it.
local function unpacked_head(type, id, packed)
  if not packed then return false end
  local is_packed, head = pcall(cmsgpack.unpack, packed)
  if not (is_packed and is_head(head)) then error({ err = 'DAMAGED ' .. type .. '\t' .. id .. '\t' }) end
  return head
end

local function head_of(type, id) return unpacked_head(type, id, redis.pcall('HGET', record_key(type, id), 'h')) end

-- What a call that failed was refused for.
local function said_by(trouble) return luatype(trouble) == 'table' and trouble.err or tostring(trouble) end

local function lives(head, now) return head and (head[6] == '' or head[6] > now) end
"""

WRITING = r"""
local LAST_MOMENT = '315537897599999999'

-- The updated_at that follows another one: the clock, but at least a microsecond later. In halves of nine digits,
-- since a float has not room for the whole.
local function later(now, stored)
  if now > stored then return now end
  if stored >= LAST_MOMENT then return LAST_MOMENT end
  local high, low = tonumber(string.sub(stored, 1, 9)), tonumber(string.sub(stored, 10)) + 1
  if low == 1e9 then high, low = high + 1, 0 end
  return string.format('%09d%09d', high, low)
end

-- A number as text: left to itself Lua writes large ones with an exponent.
local function whole(number) return string.format('%.0f', number) end

-- What cannot be read counts as nothing: a script that failed here would have done half of its work.
local function unpacked_keys(packed)
  local is_whole, keys = pcall(cmsgpack.unpack, packed or '\128')
  return is_whole and type(keys) == 'table' and keys or {}
end

local function keys_of(record) return unpacked_keys(redis.call('HGET', record, 'k')) end

local function head_and_keys_of(type, id)
  local found = redis.pcall('HMGET', record_key(type, id), 'h', 'k')
  return unpacked_head(type, id, found.err and found or found[1]), unpacked_keys(found[2])
end

local function place(set, was, is)
  if was == is then return end
  if was then redis.call('ZREM', base .. set, was) end
  if is then redis.call('ZADD', base .. set, 0, is) end
end

local function grouped(value, type, id) return value ~= '' and value .. '\0' .. id .. '\0' .. type end
local function expiring(head, type, id) return head[6] ~= '' and head[6] .. type .. ':' .. id end

-- Move a record in every sorted set that knows it, from what is stored of it to what will be.
local function index(type, id, was, had, is, has)
  place('i', was and id .. '\0' .. type, is and id .. '\0' .. type)
  place('i:' .. type, was and id, is and id)
  place('c:' .. type, was and was[4] .. id, is and is[4] .. id)
  place('u:' .. type, was and was[5] .. id, is and is[5] .. id)
  place('exp', was and expiring(was, type, id), is and expiring(is, type, id))
  place('g:s', was and grouped(was[7], type, id), is and grouped(is[7], type, id))
  place('g:t', was and grouped(was[8], type, id), is and grouped(is[8], type, id))
  for path, key in pairs(had) do
    local stays = has[path]
    place('y:' .. type .. ':' .. path, key .. id, stays and stays .. id)
    place('x:' .. type .. ':' .. path, key .. was[5] .. id, stays and stays .. is[5] .. id)
  end
  for path, key in pairs(has) do
    if not had[path] then
      place('y:' .. type .. ':' .. path, false, key .. id)
      place('x:' .. type .. ':' .. path, false, key .. is[5] .. id)
    end
  end
end

local function write(type, id, was, is, metadata, data, keys)
  local record = record_key(type, id)
  index(type, id, was, was and keys_of(record) or {}, is, cmsgpack.unpack(keys))
  redis.call('HSET', record, 'h', cmsgpack.pack(is), 'd', data, 'k', keys)
  if metadata == '' then redis.call('HDEL', record, 'm') else redis.call('HSET', record, 'm', metadata) end
  if not was then redis.call('SADD', base .. 't', type) end
end

local function new_incarnation() return redis.call('HINCRBY', KEYS[1], 'incarnation', 1) end

local function touch(type, id, head, keys, version, updated)
  place('u:' .. type, head[5] .. id, updated .. id)
  for path, key in pairs(keys) do
    place('x:' .. type .. ':' .. path, key .. head[5] .. id, key .. updated .. id)
  end
  head[2], head[5] = version, updated
  redis.call('HSET', record_key(type, id), 'h', cmsgpack.pack(head))
end

-- Remove a record with its logs and its places.
local function drop(type, id)
  local head = head_of(type, id)
  if not head then return end
  local record, owned = record_key(type, id), base .. 'o:' .. type .. ':' .. id
  for _, log in ipairs(redis.call('HKEYS', owned)) do
    redis.call('UNLINK', base .. 'e:' .. log, base .. 'k:' .. log)
    redis.call('ZREM', base .. 'logs', log)
  end
  index(type, id, head, keys_of(record), false, {})
  redis.call('UNLINK', record, owned)
end
"""

LOGS = r"""
-- An entry: number NUL created_at NUL key or '' NUL body; its score is the number. Keys hold no NUL.
local function entry_text(seq, created, key, body)
  return whole(seq) .. '\0' .. created .. '\0' .. key .. '\0' .. body
end

local function parts_of(entry)
  local created = string.find(entry, '\0', 1, true) + 1
  local key = string.find(entry, '\0', created, true) + 1
  local body = string.find(entry, '\0', key, true)
  return string.sub(entry, 1, created - 2), string.sub(entry, created, key - 2), string.sub(entry, key, body - 1)
end

-- An entry that cannot be read has no key: a script that failed here would have done half of its work.
local function forget_keys(log, entries)
  for _, entry in ipairs(entries) do
    local is_entry, _, _, key = pcall(parts_of, entry)
    if is_entry and key ~= '' then redis.call('HDEL', base .. 'k:' .. log, key) end
  end
end

-- Take out the entries with numbers from one to another, and free their keys.
local function cut(log, from, to)
  local entries = base .. 'e:' .. log
  if redis.call('EXISTS', base .. 'k:' .. log) == 1 then
    forget_keys(log, redis.call('ZRANGE', entries, from, to, 'BYSCORE'))
  end
  redis.call('ZREMRANGEBYSCORE', entries, from, to)
end

local function add(log, seq, created, key, body)
  redis.call('ZADD', base .. 'e:' .. log, seq, entry_text(seq, created, key, body))
  if key ~= '' then redis.call('HSET', base .. 'k:' .. log, key, whole(seq)) end
end

local function begin_log(type, id, log, last)
  if redis.call('HSET', base .. 'o:' .. type .. ':' .. id, log, whole(last)) == 1 then
    redis.call('ZADD', base .. 'logs', 0, log)
  end
end
"""

_APPEND = r"""
local function time_of(log, seq)
  local _, created = parts_of(redis.call('ZRANGE', base .. 'e:' .. log, seq, seq, 'BYSCORE')[1])
  return created
end

-- What each of the drafts does, before anything is written: its number, what is new, what is replaced. To a log that
-- is rewritten no key is known.
local function placed(log, last, count, on_duplicate, rewrites)
  local numbers, fresh, replaced, present = {}, {}, {}, {}
  local all_known, twice = count > 0, false
  for n = 1, count do
    local draft = { created = take(), key = take(), body = take() }
    local seq = false
    if draft.key ~= '' then
      seq = present[draft.key]
      if not seq then
        seq = not rewrites and tonumber(redis.call('HGET', base .. 'k:' .. log, draft.key) or nil)
        if seq and on_duplicate == 'error' then return nil, draft.key end
      elseif on_duplicate == 'error' then
        twice = twice or draft.key
      end
    end
    if not seq then
      all_known = false
      seq = last + #fresh + 1
      draft.seq = seq
      fresh[#fresh + 1] = draft
    elseif on_duplicate == 'replace' then
      local earlier = seq > last and fresh[seq - last] or replaced[seq]
      if draft.created == '' then draft.created = earlier and earlier.created or time_of(log, seq) end
      draft.seq = seq
      if seq > last then fresh[seq - last] = draft else replaced[seq] = draft end
    end
    if draft.key ~= '' then present[draft.key] = seq end
    numbers[n] = seq
  end
  return { numbers = numbers, fresh = fresh, replaced = replaced, all_known = all_known, twice = twice }
end

local function replace(log, seq, draft)
  redis.call('ZREMRANGEBYSCORE', base .. 'e:' .. log, seq, seq)
  add(log, seq, draft.created, draft.key, draft.body)
end

local function drop_oldest(log, count)
  if redis.call('EXISTS', base .. 'k:' .. log) == 1 then
    forget_keys(log, redis.call('ZRANGE', base .. 'e:' .. log, 0, count - 1))
  end
  redis.call('ZREMRANGEBYRANK', base .. 'e:' .. log, 0, count - 1)
end

local function append()
  local type, id, log, now = take(), take(), take(), take()
  local on_duplicate, keep_last, rewrites, expected = take(), take(), take(), take()
  local head, keys = head_and_keys_of(type, id)
  if not lives(head, now) then return { 'absent' } end
  local last = tonumber(redis.call('HGET', base .. 'o:' .. type .. ':' .. id, log) or 0)
  local found, known = placed(log, last, tonumber(take()), on_duplicate, rewrites)
  if not found then return { 'duplicate', known } end
  if found.twice then return { 'duplicate', found.twice } end
  if expected ~= '' and not found.all_known and tonumber(expected) ~= head[2] then
    return { 'version', whole(head[2]) }
  end
  local surplus = 0
  if keep_last ~= '' then
    surplus = math.max(0, redis.call('ZCARD', base .. 'e:' .. log) + #found.fresh - tonumber(keep_last))
  end
  if rewrites then redis.call('UNLINK', base .. 'e:' .. log, base .. 'k:' .. log) end
  if rewrites or #found.fresh > 0 or next(found.replaced) or surplus > 0 then
    for seq, draft in pairs(found.replaced) do replace(log, seq, draft) end
    for _, draft in ipairs(found.fresh) do
      add(log, draft.seq, draft.created == '' and now or draft.created, draft.key, draft.body)
    end
    begin_log(type, id, log, last + #found.fresh)
    if surplus > 0 then drop_oldest(log, surplus) end
    touch(type, id, head, keys, head[2] + 1, later(now, head[5]))
  end
  for n, seq in ipairs(found.numbers) do found.numbers[n] = whole(seq) end
  return { 'numbers', table.concat(found.numbers, ' ') }
end

local function pop()
  local type, id, log, now = take(), take(), take(), take()
  local head, keys = head_and_keys_of(type, id)
  local newest = lives(head, now) and redis.call('ZRANGE', base .. 'e:' .. log, -1, -1)[1]
  if not newest then return { 'nothing' } end
  forget_keys(log, { newest })
  redis.call('ZREM', base .. 'e:' .. log, newest)
  touch(type, id, head, keys, head[2] + 1, later(now, head[5]))
  return { 'entry', newest }
end
"""

_COMMIT = r"""
-- Insert or replace a record whatever is stored of it, unless another version is expected.
local function save()
  local type, id, now, expected, steps = take(), take(), take(), take(), take()
  local created, expires, session, thread = take(), take(), take(), take()
  local metadata, data, keys = take(), take(), take()
  local head = head_of(type, id)
  local living = lives(head, now)
  if expected ~= '' and tonumber(expected) ~= (living and head[2] or 0) then
    return { 'version', whole(living and head[2] or 0) }
  end
  if living then
    local version = head[2] + tonumber(steps)
    local is = { head[1], version, version, head[4], later(now, head[5]), expires, session, thread }
    write(type, id, head, is, metadata, data, keys)
  else
    drop(type, id)
    local is = { new_incarnation(), 1, 1, created == '' and now or created, now, expires, session, thread }
    write(type, id, false, is, metadata, data, keys)
  end
  return { 'done' }
end

-- The others do what was decided before, on records that were checked to be those that were read.
local function put()
  local type, id, version, created, updated = take(), take(), tonumber(take()), take(), take()
  local expires, session, thread, metadata, data, keys = take(), take(), take(), take(), take(), take()
  local head = head_of(type, id)
  local is = { head and head[1] or new_incarnation(), version, version, created, updated, expires, session, thread }
  write(type, id, head, is, metadata, data, keys)
  return { 'done' }
end

local function touch_known()
  local type, id, version, updated = take(), take(), tonumber(take()), take()
  local head, keys = head_and_keys_of(type, id)
  touch(type, id, head, keys, version, updated)
  return { 'done' }
end

local function drop_known()
  drop(take(), take())
  return { 'done' }
end

local function change_log()
  local type, id, log, last = take(), take(), take(), tonumber(take())
  for _ = 1, tonumber(take()) do cut(log, take(), take()) end
  for _ = 1, tonumber(take()) do add(log, tonumber(take()), take(), take(), take()) end
  begin_log(type, id, log, last)
  return { 'done' }
end

local changes = {
  save = save, append = append, pop = pop, put = put, touch = touch_known, drop = drop_known, log = change_log,
}

-- A check: '' means that nothing must be there, or that anything may be; '*' that it only must be readable.
local function holds(check)
  local type, id, incarnation, version, written = unpack(check)
  local head = head_of(type, id)
  if incarnation == '*' then return true end
  if incarnation == '' then return not head end
  return head and head[1] == tonumber(incarnation)
    and (version == '' or head[2] == tonumber(version)) and (written == '' or head[3] == tonumber(written))
end

-- A server that takes no writes says so of the first one, and of none behind it. The first that a job does may be one
-- that a full server takes, such as a removal: so this one, of a key that is never there, asks for all of them.
local refusal = redis.pcall('ZADD', KEYS[2], 'XX', 0, '')
local refuses = luatype(refusal) == 'table' and refusal.err

local function carry_out(generation, grows, checks, first, last)
  if generation ~= '' and generation ~= (redis.call('HGET', KEYS[1], 'generation') or '0') then return { 'paths' } end
  for _, check in ipairs(checks) do
    if not holds(check) then return { 'changed', check[1], check[2] } end
  end
  if grows and refuses then return { 'failed', refuses } end
  local reply
  for n = first, last do
    arguments, at = cmsgpack.unpack(ARGV[n]), 0
    reply = changes[take()]()
  end
  return reply
end

-- Each job by itself: one that finds damage where it looks fails alone.
local replies, place = {}, 1
for n = 1, tonumber(ARGV[1]) do
  local generation, grows, checks, count = unpack(cmsgpack.unpack(ARGV[place + 1]))
  local fine, reply = pcall(carry_out, generation, grows, checks, place + 2, place + 1 + count)
  if not fine then reply = { 'failed', said_by(reply) } end
  replies[n] = table.concat(reply, '\0')
  place = place + 1 + count
end
return replies
"""

COMMIT = Script(PARTITION + WRITING + LOGS + _APPEND + _COMMIT)
"""``ARGV``: how many jobs; of each what is asked of it, then its changes, as MessagePack (see ``jobs``). All of a job
happens, or nothing. A reply for each: a word, and what belongs to it, with NUL between."""

PURGE = Script(
    PARTITION
    + WRITING
    + r"""
local first, now, limit = take(), take(), tonumber(take())
local over = redis.call('ZRANGE', base .. 'exp', first, '[' .. now .. '\255', 'BYLEX', 'LIMIT', 0, limit)
local went, damage = 0, false
for _, member in ipairs(over) do
  local colon = string.find(member, ':', 19, true)
  local is_gone, trouble = pcall(drop, string.sub(member, 19, colon - 1), string.sub(member, colon + 1))
  if is_gone then went = went + 1 else damage = damage or said_by(trouble) end
end
return { #over == limit and over[limit] or '', went, damage }
"""
)
"""``ARGV``: a bound to begin at, now, how many at most. Removes records whose time is over.

The member to go on behind ('' at the end), how many went, and of those that could not the first one's error."""

ADD_PATHS = Script(
    PARTITION
    + r"""
if not redis.call('HGET', KEYS[1], 'schema') then redis.call('HSET', KEYS[1], 'schema', take()) else take() end
local is_new = false
for _ = 1, tonumber(take()) do
  local type, path = take(), take()
  local state = redis.call('EXISTS', base .. 'i:' .. type) == 1 and 'new' or 'filled'
  if redis.call('HSETNX', base .. 'paths', type .. ' ' .. path, state) == 1 then is_new = true end
end
if is_new then redis.call('HINCRBY', KEYS[1], 'generation', 1) end
return 'done'
"""
)
"""``ARGV``: the schema's version, how many, then a type and a path each."""

FILL = Script(
    PARTITION
    + WRITING
    + r"""
local type, path = take(), take()
for _ = 1, tonumber(take()) do
  local id, incarnation, written, key = take(), tonumber(take()), tonumber(take()), take()
  local record, head = record_key(type, id), head_of(type, id)
  local keys = head and keys_of(record)
  -- Whoever wrote the record meanwhile knew of the path.
  if head and head[1] == incarnation and head[3] == written and not keys[path] then
    keys[path] = key
    redis.call('HSET', record, 'k', cmsgpack.pack(keys))
    place('y:' .. type .. ':' .. path, false, key .. id)
    place('x:' .. type .. ':' .. path, false, key .. head[5] .. id)
  end
end
return 'done'
"""
)
"""``ARGV``: a type, a path, how many, then id, incarnation, version when written, and key each."""

FILLED = Script(
    PARTITION
    + r"""
if redis.call('HSET', base .. 'paths', take(), 'filled') == 0 then
  redis.call('HINCRBY', KEYS[1], 'generation', 1)
end
return 'done'
"""
)
"""``ARGV``: a field of ``paths``. Every record has its key there now."""

OF_ID = Script(
    PARTITION
    + r"""
local id, with_data = take(), take() == '1'
local found = {}
for _, member in ipairs(redis.call('ZRANGE', base .. 'i', '[' .. id .. '\0', '(' .. id .. '\1', 'BYLEX')) do
  local type = string.sub(member, #id + 2)
  local fields = with_data and redis.call('HMGET', record_key(type, id), 'h', 'm', 'd')
    or redis.call('HMGET', record_key(type, id), 'h', 'm')
  found[#found + 1] = type
  for _, field in ipairs(fields) do found[#found + 1] = field end
end
return found
"""
)
"""``ARGV``: an id, whether with data. Type, head, metadata (and data) of every record of that id."""

RECORDS = Script(
    PARTITION
    + r"""
local with_data, least, most = take() == '1', tonumber(take()), tonumber(take())
local found, bytes = {}, 0
for n = 1, (#ARGV - 3) / 2 do
  local record = record_key(take(), take())
  local fields = with_data and redis.call('HMGET', record, 'h', 'm', 'd') or redis.call('HMGET', record, 'h', 'm')
  bytes = bytes + #(fields[3] or '')
  if n > least and bytes > most then break end
  for _, field in ipairs(fields) do found[#found + 1] = field end
end
return found
"""
)
"""``ARGV``: whether with data, of how many at least, how many bytes of it at most, then a type and an id each.

Head, metadata (and data) of each, one after the other; with data it ends before the one that would be too much."""

COUNT = Script(
    PARTITION
    + r"""
local set, first, last, now, before, type = base .. take(), take(), take(), take(), take(), take()
local most = tonumber(take())
local count, over = redis.call('ZLEXCOUNT', set, first, last), '[' .. now .. '\255'
-- What has expired still stands there until it is purged.
if count == 0 or redis.call('ZLEXCOUNT', base .. 'exp', '-', over) > most then return { 0, count > 0 and first } end
for _, member in ipairs(redis.call('ZRANGE', base .. 'exp', '-', over, 'BYLEX')) do
  local colon = string.find(member, ':', 19, true)
  if string.sub(member, 19, colon - 1) == type and redis.call('ZSCORE', set, before .. string.sub(member, colon + 1))
  then count = count - 1 end
end
return { count, false }
"""
)
"""``ARGV``: a set of one type, two bounds, now, what stands before the id in its members, the type, how many that have
expired are looked through at most. How many are living, or 0 and a bound from which to count with ``COUNT_ON``."""

COUNT_ON = Script(
    PARTITION
    + r"""
local set, first, last, now, before, type = base .. take(), take(), take(), take(), take(), take()
local limit, count = tonumber(take()), 0
local members = redis.call('ZRANGE', set, first, last, 'BYLEX', 'LIMIT', 0, limit)
for _, member in ipairs(members) do
  if lives(head_of(type, string.sub(member, #before + 1)), now) then count = count + 1 end
end
return { count, #members == limit and '(' .. members[limit] }
"""
)
"""``ARGV``: as ``COUNT``, but how many are looked at. How many of them are living, and the bound to go on from."""

BACKWARDS = Script(
    PARTITION
    + r"""
local set, upper, lower, count, fixed = base .. take(), take(), take(), tonumber(take()), tonumber(take())
local found, tie = redis.call('ZRANGE', set, upper, lower, 'BYLEX', 'REV', 'LIMIT', 0, count + 1), {}
if #found > count and count > 0 then
  local place = string.sub(found[count + 1], 1, fixed)
  if string.sub(found[count], 1, fixed) == place then
    tie = redis.call('ZRANGE', set, '[' .. place, '(' .. place .. '\255', 'BYLEX', 'LIMIT', 0, count)
  end
end
return { found, tie }
"""
)
"""``ARGV``: a set, two bounds, how many, and how many bytes of a member are its place.

One more than so many members from the end; and where the last of them share their place, its members from the front."""

LACKING = Script(
    PARTITION
    + r"""
local type, path, first, last, limit = take(), take(), take(), take(), take()
local ids = redis.call('ZRANGE', base .. 'i:' .. type, first, last, 'BYLEX', 'LIMIT', 0, limit)
local found = { #ids == tonumber(limit) and ids[#ids] or '' }
for _, id in ipairs(ids) do
  local packed = redis.call('HGET', record_key(type, id), 'k')
  if packed and not cmsgpack.unpack(packed)[path] then found[#found + 1] = id end
end
return found
"""
)
"""``ARGV``: a type, a path, two bounds, how many to look at. The last id looked at ('' at the end), then those ids that
have no key at the path."""

LOG_INFO = Script(
    PARTITION
    + r"""
local type, id, log, now = take(), take(), take(), take()
local last = lives(head_of(type, id), now) and redis.call('HGET', base .. 'o:' .. type .. ':' .. id, log)
if not last then return false end
local first = redis.call('ZRANGE', base .. 'e:' .. log, 0, 0, 'WITHSCORES')[2]
return { first or false, last, redis.call('ZCARD', base .. 'e:' .. log) }
"""
)
"""``ARGV``: an owner's type and id, a log, now. First number, last number, count; nil when there is no such log."""

SINCE = Script(
    PARTITION
    + r"""
local log, after, before, since, reverse, limit = take(), take(), take(), take(), take() == '1', tonumber(take())
local found, first, last = {}, after, before
while #found < limit do
  local from, to = first, last
  if reverse then from, to = last, first end
  local entries
  if reverse then
    entries = redis.call('ZRANGE', base .. 'e:' .. log, from, to, 'BYSCORE', 'REV', 'LIMIT', 0, 200)
  else
    entries = redis.call('ZRANGE', base .. 'e:' .. log, from, to, 'BYSCORE', 'LIMIT', 0, 200)
  end
  local seq
  for _, entry in ipairs(entries) do
    local number_end = string.find(entry, '\0', 1, true)
    seq = string.sub(entry, 1, number_end - 1)
    if string.sub(entry, number_end + 1, number_end + 18) >= since then found[#found + 1] = entry end
    if #found == limit then break end
  end
  if #entries < 200 then break end
  if reverse then last = '(' .. seq else first = '(' .. seq end
end
return found
"""
)
"""``ARGV``: a log, two bounds of numbers, a time, whether from the end, how many. Entries made then or later."""
