-- Takes a till's claim on an account, and grants what it asks for.
--
-- KEYS book, account
-- ARGV learn for (µs), live nodes, channel, window's start (µs), expires at (ms, 0 never), limit (empty: none), version,
--      till, granted, spent, returned, refunded, over, over returned, target, least, more (1 or 0)
-- Answers {seeded, life, granted, remaining (-1 without limit), idle elsewhere, used elsewhere, learning}

local learn_for = tonumber(ARGV[1])
local channel = ARGV[3]
local limit = tonumber(ARGV[6])
local version = tonumber(ARGV[7])
local till = ARGV[8]

local book = open(KEYS[1], learn_for, ARGV[2], channel)
local account = load(KEYS[2], till)
local is_new = not account
if is_new then
    account = begin(limit, version, tonumber(ARGV[4]) > book.since + CLOCKS_DIFFER)
end
local had_left = is_new or remaining(account) > 0
local was_unlimited = not account.limit
local is_changed = agree(account, limit, version) or is_new

-- Each counter only rises: what is older than what is known changes nothing.
local claim = parse(account.claim)
account.committed = account.committed - committed_by(claim) - seed_of(account.claim)
account.used = account.used - used_by(claim) - seed_of(account.claim)
for at = 1, 6 do
    local told = tonumber(ARGV[8 + at])
    if told > claim[at] then
        claim[at] = told
        is_changed = true
    end
end
account.committed = account.committed + committed_by(claim)
account.used = account.used + used_by(claim)
if not account.claim then
    account.tills = account.tills + 1
    is_changed = true
end

-- What other tills have counted while there was no limit is known here only once they have claimed it.
if was_unlimited and account.limit and account.tills > 1 then
    account.learns = book.at + learn_for
    redis.call('PUBLISH', channel, 'recall ' .. KEYS[2] .. ' ' .. till)
end
-- A till that has many accounts to claim is waited for.
if tonumber(ARGV[17]) == 1 and is_learning(book.learns, book.at, learn_for) and book.learns < book.at + learn_for / 2 then
    book.learns = book.at + learn_for
    redis.call('HSET', KEYS[1], 'learns', text(book.learns))
end
local learning = is_learning(book.learns, book.at, learn_for) or is_learning(account.learns, book.at, learn_for)

local wanted = tonumber(ARGV[15]) - claim[1]
local least = math.max(1, tonumber(ARGV[16]) - claim[1])
local left = remaining(account)
local is_short = false
if wanted > 0 and account.limit and account.seeded and not learning then
    if left >= least then
        -- Grants halve toward the end, so that the last unit goes out exactly once and little lies idle.
        local part = math.min(wanted, math.floor(left / (2 * account.tills)))
        local units = math.min(left, math.max(least, part))
        claim[1] = claim[1] + units
        account.committed = account.committed + units
        left = left - units
        is_changed = true
    else
        is_short = true
    end
end

if is_changed then
    for at = 1, 6 do
        claim[at] = text(claim[at])
    end
    save(KEYS[2], account, till, table.concat(claim, ' '))
    for at = 1, 6 do
        claim[at] = tonumber(claim[at])
    end
end
if is_new and tonumber(ARGV[5]) > 0 then
    redis.call('PEXPIREAT', KEYS[2], ARGV[5])
end

local own_idle = math.max(0, committed_by(claim) - used_by(claim))
local idle = math.max(0, account.committed - account.used - own_idle)
if is_short and idle > 0 then
    redis.call('PUBLISH', channel, 'recall ' .. KEYS[2] .. ' ' .. till)
end
if not had_left and left > 0 then
    redis.call('PUBLISH', channel, 'freed ' .. KEYS[2])
end
return {
    account.seeded and 1 or 0,
    book.life,
    claim[1],
    account.limit and left or -1,
    idle,
    math.max(0, account.used - used_by(claim)),
    learning and 1 or 0,
}
