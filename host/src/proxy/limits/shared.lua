-- Takes tokens from a bucket as far as it has them, in one step.
--
-- KEYS: the bucket. It holds the time when it will be full again, in microseconds of this server's clock (the generic cell
-- rate algorithm), and isn't there when it is full.
-- ARGV: microseconds in which a token comes, tokens that the bucket holds, tokens wanted, and tokens given back.
-- Answers with the number of tokens taken, and the microseconds until there is another.

local bucket = KEYS[1]
local each, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local wanted, returned = tonumber(ARGV[3]), tonumber(ARGV[4])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local fills = each * burst

local full = tonumber(redis.call('GET', bucket) or now)
-- Never later than for an empty bucket, also if the clock was put back.
full = math.min(full, now + fills)
full = math.max(full - returned * each, now)

-- Doubles have microseconds of today to a quarter: what comes within one is there.
local there = math.floor((now + fills - full + 1) / each)
local taken = math.max(0, math.min(wanted, there, burst))
full = full + taken * each

if full > now then
  redis.call('SET', bucket, full, 'PX', math.ceil((full - now) / 1000))
else
  redis.call('DEL', bucket)
end
return { taken, math.max(0, math.ceil(full + each - fills - now)) }
