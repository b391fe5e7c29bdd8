-- Gives a chosen name to a key, unless another has it and somebody still holds it; and claims it for a node in the same step, so that
-- no second key can come between. KEYS: the row, and where the owner stands. ARGV: the node, the lease in milliseconds, for how many
-- seconds a name is remembered, the key. Says 1 if the key has the name now.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local owner = redis.call('GET', KEYS[2])
if owner and owner ~= ARGV[4] and redis.call('ZCOUNT', KEYS[1], '(' .. string.format('%.0f', now), '+inf') > 0 then
    return 0
end
redis.call('SET', KEYS[2], ARGV[4], 'EX', ARGV[3])
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
