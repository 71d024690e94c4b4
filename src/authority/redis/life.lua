-- The life of a book, begun if it has none, and whether it learns.
--
-- KEYS book
-- ARGV learn for (µs), live nodes, channel

local learn_for = tonumber(ARGV[1])
local book = open(KEYS[1], learn_for, ARGV[2], ARGV[3])
return { book.life, is_learning(book.learns, book.at, learn_for) and 1 or 0 }
