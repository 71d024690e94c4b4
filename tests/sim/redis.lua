-- A Redis server, as far as the scripts use one: hashes, expiry, time, publishing, replication ids; and its replica,
-- which is behind by some scripts. Replies are those of Redis 7. What a script writes reaches the replica whole.
--
-- It is Lua as well, so that a call crosses from one language to the other once and not at every command.

local NONE = string.rep('0', 40)

-- The server that a script is running on, and what that script has written: key, field (`false` for the expiry), value,
-- one after the other.
local server, writes

local function apply(hashes, key, field, value)
    local hash = hashes[key]
    if not field then
        hash.expires_at = value
    elseif hash then
        hash.fields[field] = value
    else
        hashes[key] = { fields = { [field] = value } }
    end
end

local function write(key, field, value)
    apply(server.hashes, key, field, value)
    local last = #writes
    writes[last + 1], writes[last + 2], writes[last + 3] = key, field, value
end

-- The fields of a hash that has not expired.
local function fields_of(key)
    local hash = server.hashes[key]
    if hash and hash.expires_at and hash.expires_at <= math.floor(server.clock / 1000) then
        server.hashes[key] = nil
        hash = nil
    end
    return hash and hash.fields
end

-- Redis takes numbers too, but rounds them: the scripts must not rely on it.
local function text(value)
    if type(value) ~= 'string' then
        error('a value is a ' .. type(value), 3)
    end
    return value
end

local commands = {}

function commands.HMGET(key, ...)
    local fields, replies = fields_of(key) or {}, { ... }
    for at = 1, #replies do
        replies[at] = fields[replies[at]] or false
    end
    return replies
end

function commands.HGET(key, field)
    return (fields_of(key) or {})[field] or false
end

function commands.HSET(key, ...)
    local fields, pairs, added = fields_of(key) or {}, { ... }, 0
    for at = 1, #pairs, 2 do
        local field = pairs[at]
        added = added + (fields[field] and 0 or 1)
        write(key, field, text(pairs[at + 1]))
    end
    return added
end

function commands.HSETNX(key, field, value)
    if (fields_of(key) or {})[field] then
        return 0
    end
    write(key, field, text(value))
    return 1
end

function commands.PEXPIREAT(key, at)
    if not fields_of(key) then
        return 0
    end
    write(key, false, tonumber(at))
    return 1
end

function commands.PUBLISH(_, message)
    server.published[#server.published + 1] = text(message)
    return 1
end

function commands.TIME()
    local seconds = math.floor(server.clock / 1000000)
    return { string.format('%d', seconds), string.format('%d', server.clock - seconds * 1000000) }
end

function commands.INFO(section)
    assert(section == 'replication')
    return server.info
end

local function call(command, ...)
    local run = commands[command] or error('ERR unknown command ' .. tostring(command), 2)
    return run(...)
end

-- What a script sees. As in Redis, other globals can be neither read nor made.
local function environment()
    local seen = {
        redis = { call = call },
        math = math,
        string = string,
        table = table,
        tonumber = tonumber,
        tostring = tostring,
        ipairs = ipairs,
        pairs = pairs,
        KEYS = false,
        ARGV = false,
    }
    local function refuse(_, name)
        error('the script uses the global variable ' .. tostring(name), 2)
    end
    return setmetatable(seen, { __index = refuse, __newindex = refuse })
end

local function replicate_one(of)
    local script = table.remove(of.behind, 1)
    for at = 1, #script, 3 do
        apply(of.replica, script[at], script[at + 1], script[at + 2])
    end
end

local function copy(hashes)
    local copied = {}
    for key, hash in pairs(hashes) do
        local fields = {}
        for field, value in pairs(hash.fields) do
            fields[field] = value
        end
        copied[key] = { fields = fields, expires_at = hash.expires_at }
    end
    return copied
end

local function name(it, node, before)
    it.node = node
    it.info = '# Replication\r\nrole:master\r\nmaster_replid:' .. node .. '\r\nmaster_replid2:' .. before .. '\r\n'
end

local simulated = {}

-- A master whose replica is behind by at most so many scripts.
function simulated.server(node, lag_max)
    local made = { hashes = {}, replica = {}, behind = {}, published = {}, clock = 0, lag_max = lag_max }
    name(made, node, NONE)
    return made
end

function simulated.compile(source)
    local script = assert(loadstring(source))
    local seen = environment()
    setfenv(script, seen)
    return { run = script, seen = seen }
end

-- Runs a script at `clock` with one line of `words` for each key and argument. Answers its reply as words, and lines of
-- what it published.
function simulated.run(on, script, clock, keys, words)
    local first, rest, at = {}, {}, -keys
    for word in string.gmatch(words, '([^\n]*)\n') do
        at = at + 1
        if at > 0 then
            rest[at] = word
        else
            first[at + keys] = word
        end
    end
    script.seen.KEYS, script.seen.ARGV = first, rest
    server, writes = on, {}
    on.clock = clock
    local reply = script.run()
    on.behind[#on.behind + 1] = writes
    while #on.behind > on.lag_max do
        replicate_one(on)
    end
    local published = table.concat(on.published, '\n')
    on.published = {}
    -- Redis cuts fractions off.
    if type(reply) == 'number' then
        return string.format('%d', reply), published
    end
    for at = 1, #reply do
        reply[at] = string.format('%d', reply[at])
    end
    return table.concat(reply, ' '), published
end

-- The replica is promoted, without what it has not got.
function simulated.fail_over(on, node)
    on.hashes = copy(on.replica)
    on.behind = {}
    name(on, node, on.node)
end

function simulated.flush_all(on)
    on.hashes, on.replica, on.behind = {}, {}, {}
end

function simulated.restart_empty(on, node)
    simulated.flush_all(on)
    name(on, node, NONE)
end

-- Takes the keys that begin with `prefix` to another server, as `MIGRATE` does: the replicas follow.
function simulated.migrate(on, to, prefix)
    for _, each in ipairs({ on, to }) do
        while #each.behind > 0 do
            replicate_one(each)
        end
    end
    local moving = {}
    for key, hash in pairs(on.hashes) do
        if string.sub(key, 1, #prefix) == prefix then
            moving[key] = hash
        end
    end
    local moved = copy(moving)
    for key in pairs(moving) do
        to.hashes[key], to.replica[key] = moving[key], moved[key]
        on.hashes[key], on.replica[key] = nil, nil
    end
end

-- A field as it is, whatever has expired; empty if it is not there.
function simulated.peek(on, key, field)
    local hash = on.hashes[key]
    return hash and hash.fields[field] or ''
end

return simulated
