-- Accounts: a hash {limit, version, seeded, learns, committed, used, tills} and one field for each till, which holds
-- its counters `granted spent returned refunded over over_returned`, or `seed units` as long as only the database
-- has spoken for it. An empty limit is none.

-- Tills and servers may disagree on when a window began. A window that began this much later than the book's life is
-- certainly younger than it; others are seeded, which only costs a question. In microseconds.
local CLOCKS_DIFFER = 60000000

local function load(key, till)
    local known = redis.call('HMGET', key, 'limit', 'version', 'seeded', 'learns', 'committed', 'used', 'tills', till)
    if not known[5] then
        return nil
    end
    return {
        limit = tonumber(known[1]),
        version = tonumber(known[2]),
        seeded = known[3] == '1',
        learns = tonumber(known[4]),
        committed = tonumber(known[5]),
        used = tonumber(known[6]),
        tills = tonumber(known[7]),
        claim = known[8],
    }
end

local function begin(limit, version, seeded)
    return { limit = limit, version = version, seeded = seeded, learns = 0, committed = 0, used = 0, tills = 0 }
end

local function save(key, account, till, claim)
    redis.call('HSET', key,
        'limit', account.limit and text(account.limit) or '',
        'version', text(account.version),
        'seeded', account.seeded and '1' or '0',
        'learns', text(account.learns),
        'committed', text(account.committed),
        'used', text(account.used),
        'tills', text(account.tills))
    if till then
        redis.call('HSET', key, till, claim)
    end
end

-- The newer limit. Two gateways may read one version at different times, and a limit may end by the clock: then the
-- later message counts.
local function agree(account, limit, version)
    if version < account.version or (version == account.version and limit == account.limit) then
        return false
    end
    account.limit = limit
    account.version = version
    return true
end

local function parse(claim)
    local g, s, r, f, o, p = string.match(claim or '', '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
    if g then
        return { tonumber(g), tonumber(s), tonumber(r), tonumber(f), tonumber(o), tonumber(p) }
    end
    return { 0, 0, 0, 0, 0, 0 }
end

local function seed_of(claim)
    return tonumber(string.match(claim or '', '^seed (%d+)$') or 0)
end

-- What a till may use or has used, and what it has used of it.
local function committed_by(c)
    return math.max(0, c[1] - c[3]) + math.max(0, c[5] - c[6])
end

local function used_by(c)
    return math.max(0, c[2] - c[4]) + math.max(0, c[5] - c[6])
end

local function remaining(account)
    return account.limit and math.max(0, account.limit - account.committed) or math.huge
end
