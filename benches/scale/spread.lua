-- Asks in turn with each of the keys in the file SPREAD_KEYS, from the one with the number SPREAD_FIRST on. Each of wrk's
-- threads asks at one of SPREAD_PORTS, and with its share of the keys; all with the same one, where there is only one.
local ports = {}
for port in os.getenv("SPREAD_PORTS"):gmatch("%d+") do ports[#ports + 1] = port end

local threads = 0
function setup(thread)
    thread:set("number", threads)
    thread.addr = wrk.lookup("127.0.0.1", ports[threads % #ports + 1])[1]
    threads = threads + 1
end

local function keys()
    local all, own = {}, {}
    for key in io.lines(os.getenv("SPREAD_KEYS")) do
        if #all % #ports == number then own[#own + 1] = key end
        all[#all + 1] = key
    end
    return #own > 0 and own or all
end

local requests, at = {}, 0
function init()
    for _, key in ipairs(keys()) do
        requests[#requests + 1] = wrk.format("GET", nil, { Host = wrk.headers["Host"], ["x-api-key"] = key })
    end
    at = tonumber(os.getenv("SPREAD_FIRST")) % #requests
end

function request()
    at = at % #requests + 1
    return requests[at]
end
