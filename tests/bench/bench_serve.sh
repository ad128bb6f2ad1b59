#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The server under load while it trains: wrk keeps 64 connections busy on tiles, then on items, and a person's requests (queue,
# chip, label, assessment, jobs) go on beside them ten times a second. One JSON line a phase (requests a second, p50 and p99 in
# ms, errors: answers of 400 and more, broken sockets, no answer within 2 s) and one for memory: the server's resident
# set at the start, in the middle and at the end of it all. Fails on any error.
#
#   bench_serve.sh BUILD_DIR [--seconds N] [--connections N] [--no-training]
#
# Its data root is the one of the server's tests (1,225 buildings), made anew; 600 seconds and 64 connections unless told
# otherwise. The phase "state" is the person alone beside the training, a tenth of the time; tiles and items share the rest.
set -uo pipefail
[ $# -ge 1 ] || {
    sed -n '3,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
tests=$(cd "$(dirname "$0")/.." && pwd)
here=$tests/http
build=$(realpath "$1")
shift
seconds=600 connections=64 training=true
while [ $# -gt 0 ]; do
    case $1 in
    --seconds) seconds=$2 && shift ;;
    --connections) connections=$2 && shift ;;
    --no-training) training=false ;;
    *)
        echo "bench_serve: unknown option $1" >&2
        exit 2
        ;;
    esac
    shift
done
for tool in wrk curl jq python3 ogr2ogr; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done
. "$here/server.sh" "$build/aftermap"
make_data_root
start_server --data-root "$root"
J='Content-Type: application/json'
A=$base/assessments/b
give_up() { echo "bench_serve: $1" >&2; cat "$work/stderr" >&2; exit 1; }
job() { # process, further inputs: its id
    curl -sS -H "$J" -d "{\"inputs\":{\"assessment\":\"b\"$2}}" "$base/processes/$1/execution" | jq -r .jobID
}
follow() { # job: waits until it has succeeded
    [ "$(timeout 300 curl -sSN "$base/jobs/$1/events" | grep '^data: ' | tail -1 | cut -c7- | jq -r .status)" = successful ] ||
        give_up "a job that prepares it failed: $(curl -sS "$base/jobs/$1")"
}

# ---- an assessment with a map
follow "$(curl -sS -H "$J" -d '{"id":"b","title":"B","pre":["scenes/pre.tif"],"post":["scenes/post.tif"],
    "footprints":"scenes/houses.gpkg","size_m":16,"gsd_m":0.5}' "$base/assessments" | jq -r .job.jobID)"
awk 'BEGIN { print "bldg_id,grade"; split("none minor major destroyed", name, " ")
    for (n = 1; n <= 400; n++) { level = (7 * ((n - 1) % 35) + 3 * int((n - 1) / 35)) % 5; if (level < 4) print "b" n "," name[level + 1] } }' |
    curl -sS -o /dev/null -H 'Content-Type: text/csv' --data-binary @- "$A/labels"
for id in $(curl -sS "$base/jobs?status=running" "$base/jobs?status=accepted" | jq -r '.jobs[].jobID'); do # it trains by itself
    curl -sS -o /dev/null -X DELETE "$base/jobs/$id"
done
follow "$(job train ',"steps":5,"seed":1,"preset":"lite","batch":8,"max_items":64')"
follow "$(job predict ',"tta":"1"')"
until [ "$(curl -sS "$A" | jq -c '[.layers[] | select(.id == "damage").available]')" = '[true]' ]; do sleep 0.1; done

# ---- what is asked for
cat >"$work/load.lua" <<'LUA'
local tiles, items = {}, {}
local function tile(lon, lat, z)
    local n, phi = 2 ^ z, math.rad(lat)
    return math.floor((lon + 180) / 360 * n), math.floor((1 - math.log(math.tan(phi) + 1 / math.cos(phi)) / math.pi) / 2 * n)
end
local west, south, east, north = BOUNDS
for z = 14, 21 do
    local x0, y0 = tile(west, north, z)
    local x1, y1 = tile(east, south, z)
    for x = x0, x1 do for y = y0, y1 do for _, layer in ipairs { "pre", "post", "damage", "prob" } do
        tiles[#tiles + 1] = string.format("/tiles/b/%s/%d/%d/%d.png", layer, z, x, y)
    end end end
end
local at = "/collections/b.buildings/items"
for i = 0, 199 do
    items[#items + 1] = at .. "?limit=10"
    items[#items + 1] = at .. "?limit=100&dmg_class=destroyed"
    items[#items + 1] = at .. "/" .. (1 + 6 * i)
    items[#items + 1] = string.format("%s?bbox=%.6f,%.6f,%.6f,%.6f", at, west + i * 1.5e-5, south, west + 4e-4 + i * 1.5e-5, north)
    items[#items + 1] = at .. "?limit=1000&min_p=0.2"
    items[#items + 1] = at .. "?limit=50&sortby=-p_dmg"
end
local list, seed
function setup(thread) seed = (seed or 0) + 1; thread:set("seed", seed) end
function init(args) list = args[1] == "tiles" and tiles or items; math.randomseed(wrk.thread and seed or 1) end
function request() return wrk.format("GET", list[math.random(#list)]) end
function done(s, l)
    local e = s.errors
    io.write(string.format('"requests":%d,"per_s":%.1f,"p50_ms":%.2f,"p99_ms":%.2f,"max_ms":%.1f,"mb_per_s":%.1f,"errors":%d',
        s.requests, s.requests / s.duration * 1e6, l:percentile(50) / 1e3, l:percentile(99) / 1e3, l.max / 1e3,
        s.bytes / s.duration, e.connect + e.read + e.write + e.status + e.timeout), "\n")
end
LUA
sed -i "s/BOUNDS/$(curl -sS "$base/tiles/b/damage/tilejson.json" | jq -r '.bounds | join(", ")')/" "$work/load.lua"
cat >"$work/person.py" <<'PYTHON'
import http.client, json, sys, time
host, seconds = sys.argv[1], float(sys.argv[2])
c = http.client.HTTPConnection(host, timeout=30)
took, errors, end, n = {}, 0, time.monotonic() + seconds, 0
def ask(kind, method, path, body=None, headers={}, fine=()):
    global errors
    begun = time.monotonic()
    try:
        c.request(method, path, body, headers)
        r = c.getresponse(); text = r.read()
        errors += r.status >= 400 and r.status not in fine
    except OSError:
        errors += 1; text = b""; c.close()
    took.setdefault(kind, []).append(1000 * (time.monotonic() - begun))
    return text
J = {"Content-Type": "application/json"}
while time.monotonic() < end:
    due = time.monotonic() + 0.1
    kind = n % 5
    b = "b%d" % (401 + n % 800)
    if kind == 0: ask("queue", "GET", "/assessments/b/queue?n=5&user=ana")
    elif kind == 1: ask("chip", "GET", "/assessments/b/chips/%s/post.png" % b)
    elif kind == 2: # what stands there must have been read before it may be replaced
        now = json.loads(ask("label_read", "GET", "/assessments/b/labels/" + b, fine=(404,)) or "{}")
        ask("label", "PUT", "/assessments/b/labels/" + b, json.dumps({"dmg_class": "minor", "by": "ana", "note": "n%d" % n}),
            {**J, **({"If-Match": now["etag"]} if "etag" in now else {"If-None-Match": "*"})})
    elif kind == 3: ask("assessment", "GET", "/assessments/b")
    else: ask("jobs", "GET", "/jobs?assessment=b")
    n += 1
    time.sleep(max(0, due - time.monotonic()))
every = sorted(v for k in took.values() for v in k)
at = lambda v, q: round(sorted(v)[min(len(v) - 1, int(q * len(v)))], 2)
print(json.dumps({"requests": len(every), "p50_ms": at(every, .5), "p99_ms": at(every, .99), "max_ms": round(every[-1], 1),
                  "errors": errors, "p99_of": {k: at(v, .99) for k, v in took.items()}}, separators=(",", ":")))
PYTHON

# ---- the load
if $training; then
    busy=$(job train ",\"budget_s\":$((seconds + 300)),\"seed\":2")
    for _ in $(seq 300); do
        [ "$(curl -sS "$base/jobs/$busy" | jq '.progress > 3')" = true ] && break
        sleep 0.2
    done
fi
while sleep 1; do sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$server/status" || break; done >"$work/rss" 2>/dev/null &
sampler=$!
phase() { # name, seconds
    python3 "$work/person.py" "${base#http://}" "$2" >"$work/person" &
    local person=$! wrk=
    if [ "$1" != state ]; then
        wrk=$(wrk -t 2 -c "$connections" -d "$2" -s "$work/load.lua" "$base" -- "$1" | tail -n 1),
    fi
    wait $person
    echo "{\"phase\":\"$1\",\"seconds\":$2,${wrk}\"person\":$(cat "$work/person"),\"load_1min\":$(cut -d' ' -f1 /proc/loadavg)}" |
        tee -a "$work/phases"
}
[ "$seconds" -lt 20 ] && seconds=20
phase state $((seconds / 10))
for kind in tiles items; do phase $kind $((seconds * 9 / 20)); done
kill $sampler
trained=none
$training && trained=$(curl -sS "$base/jobs/$busy" | jq -r .status)
awk -v trained="$trained" '{ v[NR] = $1; if ($1 > top) top = $1 } END {
    printf "{\"phase\":\"memory\",\"start_mib\":%.1f,\"middle_mib\":%.1f,\"end_mib\":%.1f,\"peak_mib\":%.1f,\"training\":\"%s\"}\n",
        v[1] / 1024, v[int((NR + 1) / 2)] / 1024, v[NR] / 1024, top / 1024, trained }' "$work/rss"
errors=$(jq -s 'map((.errors // 0) + .person.errors) | add' "$work/phases")
[ "$errors" = 0 ] || give_up "$errors errors"
