-- Tells what was used of an account that its book had forgotten. An account that is seeded stays as it is.
--
-- KEYS book, account
-- ARGV learn for (µs), live nodes, channel, expires at (ms, 0 never), limit (empty: none), version,
--      then pairs: till, units
-- Answers 1 if it was seeded now, 0 if it had been.

local book = open(KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3])
local account = load(KEYS[2], '')
if account and account.seeded then
    return 0
end
local is_new = not account
account = account or begin(tonumber(ARGV[5]), tonumber(ARGV[6]), false)
agree(account, tonumber(ARGV[5]), tonumber(ARGV[6]))
for at = 7, #ARGV, 2 do
    -- A till that has claimed knows better.
    if redis.call('HSETNX', KEYS[2], ARGV[at], 'seed ' .. ARGV[at + 1]) == 1 then
        local units = tonumber(ARGV[at + 1])
        account.committed = account.committed + units
        account.used = account.used + units
        account.tills = account.tills + 1
    end
end
account.seeded = true
save(KEYS[2], account)
if is_new and tonumber(ARGV[4]) > 0 then
    redis.call('PEXPIREAT', KEYS[2], ARGV[4])
end
return 1
