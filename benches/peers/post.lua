-- wrk: POST the file named by BODY with content type CT and the header HEADER ("name: value"), and
-- print the outcome as JSON.
local file = assert(io.open(os.getenv("BODY"), "rb"))
wrk.body = file:read("*a")
file:close()
wrk.method = "POST"
wrk.headers["Content-Type"] = os.getenv("CT")
local name, value = (os.getenv("HEADER") or ""):match("([^:]+):%s*(.+)")
if name then wrk.headers[name] = value end

function done(summary, latency)
  local broken = summary.errors
  local line = 'JSON {"requests":%d,"duration_us":%d,"refused":%d,"broken":%d,"p50_us":%d,"p99_us":%d}\n'
  io.write(line:format(
    summary.requests, summary.duration, broken.status,
    broken.connect + broken.read + broken.write + broken.timeout,
    latency:percentile(50), latency:percentile(99)
  ))
end
