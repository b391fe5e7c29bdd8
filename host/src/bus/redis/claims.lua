-- Writes claims, tells the other nodes of them, and keeps chosen names with their owners; by Redis' clock, in one step.
-- KEYS: for each name its row, and where its owner stands. ARGV: the node, the lease in milliseconds, for how many seconds a name is
-- remembered, the channel of notices; then for each name whether it is held (1), its owner or nothing, a notice or nothing.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local node, lease, remembered, channel = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
for n = 1, #KEYS / 2 do
    local row, kept = KEYS[2 * n - 1], KEYS[2 * n]
    local held, owner, notice = ARGV[3 * n + 2], ARGV[3 * n + 3], ARGV[3 * n + 4]
    if held == '1' then
        redis.call('ZADD', row, now + lease, node)
        -- The others' that have ended; ours stays, so that the name is known.
        redis.call('ZREMRANGEBYSCORE', row, '-inf', now)
        redis.call('EXPIRE', row, remembered)
        if owner ~= '' then
            redis.call('SET', kept, owner, 'EX', remembered, 'NX')
            redis.call('EXPIRE', kept, remembered)
        end
    else
        -- It stays as one that has ended: an offline tunnel isn't an unknown one.
        redis.call('ZADD', row, 'XX', now, node)
    end
    if notice ~= '' then
        redis.call('PUBLISH', channel, notice)
    end
end
