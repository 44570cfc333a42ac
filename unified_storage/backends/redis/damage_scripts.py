"""Scripts that look at what a partition keeps beside its records, and put it right where they are told to.

Each looks and mends in one step, so that nothing which is only being written is taken for damage. Their first argument
is whether to mend; without it they only read.
"""

from __future__ import annotations

from unified_storage.backends.redis.client import Script
from unified_storage.backends.redis.scripts import LOGS, PARTITION, WRITING

_SEEING = r"""
local mends = take() == '1'

-- The head of a record; 'absent' where there is none, 'damaged' where nobody can read it.
local function seen_head(kind, id)
  local record = record_key(kind, id)
  local packed = redis.pcall('HGET', record, 'h')
  if not packed then return redis.call('EXISTS', record) == 1 and 'damaged' or 'absent' end
  local is_packed, head = pcall(cmsgpack.unpack, packed)
  return is_packed and is_head(head) and head or 'damaged'
end

local function seen_keys(kind, id)
  local is_packed, keys = pcall(keys_of, record_key(kind, id))
  return is_packed and luatype(keys) == 'table' and keys or {}
end

-- What `index` would put where for a new record, instead of its doing so.
local put_there
local in_earnest = place
place = function(set, _, member)
  if member then put_there[#put_there + 1] = { set, member } end
end

local function members(kind, id, head, keys)
  put_there = {}
  index(kind, id, false, {}, head, keys)
  return put_there
end
"""

RECORDS_SEEN = Script(
    PARTITION
    + WRITING
    + _SEEING
    + r"""
local function missing(kind, id, head, keys)
  local sets = {}
  for _, each in ipairs(members(kind, id, head, keys)) do
    if redis.call('ZSCORE', base .. each[1], each[2]) ~= '0' then
      sets[#sets + 1] = each[1]
      if mends then redis.call('ZADD', base .. each[1], 0, each[2]) end
    end
  end
  if redis.call('SISMEMBER', base .. 't', kind) == 0 then
    sets[#sets + 1] = 't'
    if mends then redis.call('SADD', base .. 't', kind) end
  end
  return sets
end

local function flat(keys)
  local pairs_of = {}
  for path, key in pairs(keys) do
    pairs_of[#pairs_of + 1] = path
    pairs_of[#pairs_of + 1] = key
  end
  return pairs_of
end

local answer = { redis.call('HGETALL', base .. 'paths') }
while at < #ARGV do
  local kind, id, with_data = take(), take(), take() == '1'
  local head, record = seen_head(kind, id), record_key(kind, id)
  if luatype(head) == 'string' then
    answer[#answer + 1] = { head }
  elseif redis.call('HEXISTS', record, 'd') == 0 then
    answer[#answer + 1] = { 'bare' }
  else
    local keys = seen_keys(kind, id)
    answer[#answer + 1] = {
      'whole', head[1], head[3], missing(kind, id, head, keys), flat(keys),
      redis.call('HGET', record, 'm'), with_data and redis.call('HGET', record, 'd'),
    }
  end
end
return answer
"""
)
"""``ARGV``: mend, then a type, an id and whether with data each.

The partition's ``paths``, then of each record ``absent``, ``damaged``, ``bare`` (without a document), or ``whole`` with
incarnation, version when written, sets that lack it (and have it now), keys by path, metadata and data."""

MEND_KEYS = Script(
    PARTITION
    + WRITING
    + _SEEING
    + r"""
place = in_earnest
local kind, id, incarnation, written = take(), take(), tonumber(take()), tonumber(take())
local head = seen_head(kind, id)
if luatype(head) == 'string' or head[1] ~= incarnation or head[3] ~= written then return 'changed' end
local had, has = seen_keys(kind, id), seen_keys(kind, id)
while at < #ARGV do
  local path, key = take(), take()
  has[path] = key ~= '' and key or nil
end
index(kind, id, head, had, head, has)
redis.call('HSET', record_key(kind, id), 'k', cmsgpack.pack(has))
return 'done'
"""
)
"""``ARGV``: mend, a type, an id, incarnation and version when written of what was looked at, then a path and its key
('' for none) each."""

SET_SEEN = Script(
    PARTITION
    + WRITING
    + _SEEING
    + r"""
local set, after, limit = take(), take(), tonumber(take())
local letter, kind_of_set, path = string.match(set, '^(%a+):?([^:]*):?(.*)$')

local function split(text, from)
  local zero = string.find(text, '\0', from, true)
  if zero then return string.sub(text, from, zero - 1), zero + 1 end
end

local function of_log(log)
  local slash = string.find(log, '/', 1, true)
  if not slash then return '', '' end
  local at_sign = string.find(log, '@', 1, true)
  local kind = at_sign and at_sign < slash and string.sub(log, at_sign + 1, slash - 1) or 'session'
  return kind, string.sub(log, slash + 1)
end

-- The type and the id of the record that a member is about.
local function record_of(member)
  if set == 'logs' then return of_log(member) end
  if set == 'i' then
    local id, rest = split(member, 1)
    return id and string.sub(member, rest), id
  end
  if letter == 'i' then return kind_of_set, member end
  if letter == 'c' or letter == 'u' then return kind_of_set, string.sub(member, 19) end
  if letter == 'g' then
    local _, first = split(member, 1)
    if not first then return end
    local id, second = split(member, first)
    return second and string.sub(member, second), id
  end
  if letter == 'exp' then
    local colon = string.find(member, ':', 19, true)
    if not colon then return end
    return string.sub(member, 19, colon - 1), string.sub(member, colon + 1)
  end
  local key_end = string.find(member, '\0\1', 1, true)
  if not key_end then return end
  return kind_of_set, string.sub(member, key_end + (letter == 'x' and 20 or 2))
end

local function belongs(member, kind, id, head)
  if set == 'logs' then return redis.call('HEXISTS', base .. 'o:' .. kind .. ':' .. id, member) == 1 end
  local keys = {}
  if path ~= '' then keys[path] = seen_keys(kind, id)[path] end
  for _, each in ipairs(members(kind, id, head, keys)) do
    if each[1] == set and each[2] == member then return true end
  end
  return false
end

local found = {}
local function report(member, what)
  local kind, id = record_of(member)
  found[#found + 1] = { what, kind or '', id or '', member }
end

if after == '' and redis.call('ZCOUNT', base .. set, 0, 0) ~= redis.call('ZCARD', base .. set) then
  for _, bounds in ipairs({ { '-inf', '(0' }, { '(0', '+inf' } }) do
    for _, member in ipairs(redis.call('ZRANGE', base .. set, bounds[1], bounds[2], 'BYSCORE', 'LIMIT', 0, limit)) do
      report(member, 'stale')
      if mends then redis.call('ZADD', base .. set, 0, member) end
    end
  end
end
local lower = after == '' and '-' or '(' .. after
local seen = redis.call('ZRANGE', base .. set, lower, '+', 'BYLEX', 'LIMIT', 0, limit)
for _, member in ipairs(seen) do
  local kind, id = record_of(member)
  local head = kind and seen_head(kind, id) or 'absent'
  local what = false
  if head == 'absent' then
    what = 'orphaned'
  elseif head ~= 'damaged' and not belongs(member, kind, id, head) then
    what = 'stale'
  end
  if what then
    report(member, what)
    if mends then redis.call('ZREM', base .. set, member) end
  end
end
return { #seen == limit and seen[#seen] or '', found }
"""
)
"""``ARGV``: mend, a sorted set of scores 0, the member to go on behind ('' at first), how many.

The member to go on behind ('' at the end), then of each that does not belong there ``orphaned`` (no such record) or
``stale``, type, id and member. The set of log ids is only looked at: ``LOGS_SEEN`` mends."""

LOGS_SEEN = Script(
    PARTITION
    + WRITING
    + LOGS
    + _SEEING
    + r"""
local function place_of(log, owned)
  if redis.call('EXISTS', base .. 'e:' .. log) == 1 then return 'e' end
  if redis.call('EXISTS', base .. 'k:' .. log) == 1 then return 'k' end
  return redis.call('HEXISTS', owned, log) == 1 and 'o' or 'logs'
end

local function remove(log, owned)
  redis.call('UNLINK', base .. 'e:' .. log, base .. 'k:' .. log)
  redis.call('ZREM', base .. 'logs', log)
  redis.call('HDEL', owned, log)
end

local function highest(log)
  return tonumber(redis.call('ZRANGE', base .. 'e:' .. log, -1, -1, 'WITHSCORES')[2] or 0)
end

local function seen(kind, id, log, from)
  local owned = base .. 'o:' .. kind .. ':' .. id
  if place_of(log, owned) ~= from then return '' end
  local last = redis.call('HGET', owned, log)
  if seen_head(kind, id) == 'absent' or (not last and from ~= 'e') then
    if mends then remove(log, owned) end
    return 'orphaned'
  end
  local listed = redis.call('ZSCORE', base .. 'logs', log) == '0'
  if not last then
    if mends then begin_log(kind, id, log, highest(log)) end
    return 'orphaned'
  end
  local words = ''
  if not listed then
    words = 'unlisted '
    if mends then redis.call('ZADD', base .. 'logs', 0, log) end
  end
  if highest(log) > (tonumber(last) or -1) then
    words = words .. 'low'
    if mends then redis.call('HSET', owned, log, string.format('%.0f', highest(log))) end
  end
  return words
end

local answer = {}
while at < #ARGV do answer[#answer + 1] = seen(take(), take(), take(), take()) end
return answer
"""
)
"""``ARGV``: mend, then a type, an id, a log and where it was come by (``e k o logs``) each.

Of each log, where that is the first of these places that know it, '' or what is wrong: ``orphaned``, ``unlisted``,
``low`` (would give a number again)."""

STRANGER = Script(
    PARTITION
    + WRITING
    + _SEEING
    + r"""
return redis.call('HDEL', base .. 'o:' .. take() .. ':' .. take(), take())
"""
)
"""``ARGV``: mend, a record's type and id, a log that is not its own."""

ENTRIES_SEEN = Script(
    PARTITION
    + WRITING
    + LOGS
    + _SEEING
    + r"""
local log, after, limit = take(), take(), tonumber(take())
local keys = base .. 'k:' .. log

local function key_at(seq)
  local entry = tonumber(seq) and redis.call('ZRANGE', base .. 'e:' .. log, seq, seq, 'BYSCORE')[1]
  local is_entry, number, _, key = pcall(parts_of, entry)
  return is_entry and number == seq and key
end

local entries = redis.call('ZRANGE', base .. 'e:' .. log, '(' .. after, '+inf', 'BYSCORE', 'LIMIT', 0, limit)
local wrong, last = 0, ''
for _, entry in ipairs(entries) do
  local is_entry, seq, _, key = pcall(parts_of, entry)
  if is_entry and key ~= '' then
    local stored = redis.call('HGET', keys, key)
    if stored ~= seq and not (stored and key_at(stored) == key) then
      wrong = wrong + 1
      if mends then redis.call('HSET', keys, key, seq) end
    end
  end
end
if #entries == limit then last = redis.call('ZSCORE', base .. 'e:' .. log, entries[limit]) end
return { last, wrong }
"""
)
"""``ARGV``: mend, a log, the number to go on behind, how many.

The number to go on behind ('' at the end), and how many entries are not found by their key."""

ENTRY_KEYS_SEEN = Script(
    PARTITION
    + WRITING
    + LOGS
    + _SEEING
    + r"""
local log, cursor, limit = take(), take(), take()
local reply, wrong = redis.call('HSCAN', base .. 'k:' .. log, cursor, 'COUNT', limit), 0
for n = 1, #reply[2], 2 do
  local key, seq = reply[2][n], reply[2][n + 1]
  local entry = tonumber(seq) and redis.call('ZRANGE', base .. 'e:' .. log, seq, seq, 'BYSCORE')[1]
  local is_entry, number, _, its_key = pcall(parts_of, entry)
  if not (is_entry and number == seq and its_key == key) then
    wrong = wrong + 1
    if mends then redis.call('HDEL', base .. 'k:' .. log, key) end
  end
end
return { reply[1], wrong }
"""
)
"""``ARGV``: mend, a log, a cursor, about how many. The next cursor, and how many keys are of no entry."""

COUNTER_SEEN = Script(
    PARTITION
    + WRITING
    + _SEEING
    + r"""
local given = take()
local is_behind = tonumber(redis.call('HGET', KEYS[1], 'incarnation') or 0) < tonumber(given)
if is_behind and mends then redis.call('HSET', KEYS[1], 'incarnation', given) end
return is_behind and 1 or 0
"""
)
"""``ARGV``: mend, the highest incarnation among the records. Whether the counter is behind it."""

NODE = Script("return redis.call('CLUSTER', 'MYID')")
"""Which node of a cluster a partition lies on."""

KEYS_BY_NAME = Script("return redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])")
"""``ARGV``: a cursor, a pattern, about how many. Keys of the partition's node: the next cursor, and the names."""
