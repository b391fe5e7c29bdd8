-- One operation on one bucket, in one step.
--
-- KEYS: the bucket's entries, a hash from key to value; and when entries expire, a sorted set of keys by milliseconds.
-- ARGV: the operation, the entry's key, and for those that write the quota (entries, bytes), the time to live in
-- milliseconds (empty: none), and what is written.
-- Answers with what came of it, and a value if there is one. `again` means that nothing was done but to clear away
-- some of what has expired, and that more of it is there.

local entries, expiries = KEYS[1], KEYS[2]
local operation, key = ARGV[1], ARGV[2]
local most_entries, most_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])

-- The field of the hash that counts bytes of keys and values, also of entries that have expired and are still there. No
-- key is called so: it isn't UTF-8.
local BYTES = '\255'

-- Expired entries that each write takes away: more than it can add, so that they never pile up.
local FEW = 4

-- As many as are taken away at once to make room: others wait for this script.
local MANY = 256

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function answer(outcome, value)
  return { outcome, value or false }
end

-- The value, or false.
local function present()
  local expires = redis.call('ZSCORE', expiries, key)
  if expires and tonumber(expires) <= now then
    return false
  end
  return redis.call('HGET', entries, key)
end

local function drop(gone)
  local bytes = #gone + redis.call('HSTRLEN', entries, gone)
  redis.call('ZREM', expiries, gone)
  if redis.call('HDEL', entries, gone) == 1 then
    -- Not -bytes: of none that is -0, which is no whole number to Redis.
    redis.call('HINCRBY', entries, BYTES, 0 - bytes)
  end
end

-- Takes away so many that have expired, the first to expire first; says whether there may be more.
local function sweep(most)
  local gone = redis.call('ZRANGEBYSCORE', expiries, '-inf', now, 'LIMIT', 0, most)
  for _, each in ipairs(gone) do
    drop(each)
  end
  return #gone == most
end

-- By how many bytes the bucket would grow; nothing if it mayn't.
local function growth(value)
  local replaces = redis.call('HEXISTS', entries, key) == 1
  local grows = #value - redis.call('HSTRLEN', entries, key)
  if not replaces then
    grows = grows + #key
    -- With the field that counts bytes these are as many as there would be entries.
    if math.max(redis.call('HLEN', entries), 1) > most_entries then
      return nil
    end
  end
  local bytes = tonumber(redis.call('HGET', entries, BYTES) or 0)
  if grows > 0 and bytes + grows > most_bytes then
    return nil
  end
  return grows
end

-- A bucket whose entries all expire goes with the last of them, whoever still knows of it.
local function settle()
  local count = redis.call('HLEN', entries) - 1
  if count < 1 then
    redis.call('DEL', entries, expiries)
  elseif redis.call('ZCARD', expiries) == count then
    local last = redis.call('ZRANGE', expiries, -1, -1, 'WITHSCORES')[2]
    redis.call('PEXPIREAT', entries, last)
    redis.call('PEXPIREAT', expiries, last)
  else
    redis.call('PERSIST', entries)
    redis.call('PERSIST', expiries)
  end
end

local function put(value, expires)
  sweep(FEW)
  local grows = growth(value)
  if not grows then
    local more = sweep(MANY)
    grows = growth(value)
    if not grows then
      return answer(more and 'again' or 'full')
    end
  end
  redis.call('HINCRBY', entries, BYTES, grows)
  redis.call('HSET', entries, key, value)
  if expires then
    redis.call('ZADD', expiries, expires, key)
  else
    redis.call('ZREM', expiries, key)
  end
  settle()
  return answer('done')
end

local function ends(ttl)
  return ttl ~= '' and now + tonumber(ttl)
end

-- Numbers of Lua have 53 bits; Redis' own have 64, are written as they have to be, and don't overflow. So the sum is
-- made by Redis, taken back, and put as any other value.
local function sum(by)
  local before = redis.call('HGET', entries, key)
  local added = redis.pcall('HINCRBY', entries, key, by)
  if type(added) == 'table' then
    return added
  end
  local after = redis.call('HGET', entries, key)
  if before then
    redis.call('HSET', entries, key, before)
  else
    redis.call('HDEL', entries, key)
  end
  return after
end

if operation == 'get' then
  return answer('done', present())
end

if operation == 'remove' then
  drop(key)
  settle()
  return answer('done')
end

if operation == 'set' then
  return put(ARGV[6], ends(ARGV[5]))
end

if operation == 'increment' then
  local expires
  if present() then
    expires = redis.call('ZSCORE', expiries, key)
  else
    drop(key)
    expires = ends(ARGV[5])
  end
  local after = sum(ARGV[6])
  if type(after) == 'string' then
    local outcome = put(after, expires)
    outcome[2] = after
    return outcome
  end
  if string.find(after.err, 'not an integer', 1, true) or string.find(after.err, 'overflow', 1, true) then
    return answer('not a number')
  end
  return after
end

if operation == 'swap' then
  -- The old value is the last argument; absent, if there has to be none.
  if present() ~= (ARGV[7] or false) then
    return answer('differs')
  end
  return put(ARGV[6], ends(ARGV[5]))
end

return redis.error_reply('ERR no such operation')
