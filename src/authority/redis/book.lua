-- What the other scripts begin with: a book, and numbers.
--
-- A book is a hash {node, since, learns, life}: which node wrote it last, since when nothing of it was lost, until
-- when it learns, and the life that this makes. Instants are microseconds of this server's clock.

local function text(number)
    return string.format('%.0f', number)
end

local function now()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- The book as of now. A server takes another replication id when it starts and when it is promoted: in both cases
-- writes may be missing, and a new life begins. But a book that has moved here in the resharding of a cluster was
-- written by another node, which is still alive: `live` names the nodes that are. On a server that was promoted this is
-- not enough: the book may have come before, and what was written here since may be missing with the name of the writer.
local function open(key, learn_for, live, channel)
    local info = redis.call('INFO', 'replication')
    local node = string.match(info, 'master_replid:(%x+)')
    local before = string.match(info, 'master_replid2:(%x+)')
    local at = now()
    local known = redis.call('HMGET', key, 'node', 'since', 'learns', 'life')
    local book = { at = at, since = tonumber(known[2]), learns = tonumber(known[3]), life = tonumber(known[4]) }
    if known[1] == node then
        return book
    end
    if known[1] and string.find(live, known[1], 1, true) and not string.find(before, '[^0]') then
        redis.call('HSET', key, 'node', node)
        return book
    end
    book.since = at
    book.learns = at + learn_for
    book.life = math.max(at, (book.life or 0) + 1)
    redis.call('HSET', key, 'node', node, 'since', text(book.since), 'learns', text(book.learns), 'life', text(book.life))
    redis.call('PUBLISH', channel, 'reborn')
    return book
end

-- A clock that was set back does not make learning longer than it should be.
local function is_learning(learns, at, learn_for)
    return learns > at and learns <= at + learn_for
end
