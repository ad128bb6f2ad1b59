#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What nobody should send and somebody will: broken HTTP, bodies that lie about themselves, archives and images that swell,
# polygons of a million points, coordinates that are no numbers, buildings on both sides of the 180th meridian. Refusals have
# to be prompt and readable, and afterwards the server has to be the same one, no larger than before.
# (Slow clients: test_guard.sh. Traversal, VRT in TIFF, one label at once: test_workflow.sh. Full disk: test_full_disk.sh.)
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for tool in curl jq python3 ogr2ogr gdal_create gdaltransform gzip; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done
. "$here/server.sh" "$1"
make_data_root
start_server --data-root "$root"
first=$server
J='Content-Type: application/json'
get() { curl -sS -m 60 "$@"; }

echo "# broken HTTP"
python3 - "${base##*:}" >"$work/raw" <<'PYTHON'
import socket, sys
port = int(sys.argv[1])
host = b"Host: localhost\r\n"
post = b"POST /session HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\n"
cases = [
    ("noise", bytes(range(256)) * 4, {400, 505, 0}),
    ("no version", b"GET /healthz\r\n\r\n", {400, 505, 0}),
    ("a version that is none", b"GET /healthz HTTP/9.9\r\n" + host + b"\r\n", {400, 505, 0}),
    ("no Host", b"GET /healthz HTTP/1.1\r\n\r\n", {400}),
    ("two Hosts", b"GET /healthz HTTP/1.1\r\n" + host + host + b"\r\n", {400, 0, 200}),
    ("a space before the colon", b"GET /healthz HTTP/1.1\r\n" + host + b"X : y\r\n\r\n", {400, 0, 200}),
    ("a folded line", b"GET /healthz HTTP/1.1\r\n" + host + b"X: a\r\n b\r\n\r\n", {400, 0, 200}),
    ("NUL in a header", b"GET /healthz HTTP/1.1\r\n" + host + b"X: a\0b\r\n\r\n", {400, 0, 200}),
    ("ten thousand header lines", b"GET /healthz HTTP/1.1\r\n" + host + b"X: y\r\n" * 10000 + b"\r\n", {400, 431, 413, 0}),
    ("a negative length", post + b"Content-Length: -5\r\n\r\n{}", {400, 413, 0}),
    ("a length of letters", post + b"Content-Length: ten\r\n\r\n{}", {400, 0}),
    ("a length beyond counting", post + b"Content-Length: 99999999999999999999999\r\n\r\n{}", {400, 413, 0}),
    ("a large length", post + b"Content-Length: 4000000000\r\n\r\n{}", {413}),
    ("two lengths", post + b"Content-Length: 2\r\nContent-Length: 30\r\n\r\n{}", {400, 0}),
    ("a length and chunks", post + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400, 0}),
    ("chunks of no size", post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", {400, 0}),
    ("a chunk beyond counting", post + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}", {400, 413, 0}),
    ("chunks without end", post + b"Transfer-Encoding: chunked\r\n\r\n" + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 64, {400, 413, 0}),
    ("a method that is none", b"BREW /healthz HTTP/1.1\r\n" + host + b"\r\n", {405, 501, 400}),
    ("a method of a kilobyte", b"G" * 1024 + b" / HTTP/1.1\r\n" + host + b"\r\n", {400, 405, 414, 501, 0}),
]
for what, text, wanted in cases:
    s = socket.create_connection(("127.0.0.1", port)); s.settimeout(15)
    got = b""
    try:
        s.sendall(text)
        s.shutdown(socket.SHUT_WR)
        while len(got) < 12:
            more = s.recv(4096)
            if not more: break
            got += more
    except socket.timeout: got = b"HTTP/1.1 999"
    except OSError: pass # the server has closed it
    s.close()
    status = int(got[9:12]) if got[:5] == b"HTTP/" and got[9:12].isdigit() else 0 # 0: closed without a word
    print("ok" if status in wanted else status, what, sep=":")
# Requests behind each other on one connection, the middle one broken: nothing of it is taken for a request of its own.
s = socket.create_connection(("127.0.0.1", port)); s.settimeout(5)
s.sendall(b"GET /healthz HTTP/1.1\r\n" + host + b"\r\n" + post + b"Content-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
          b"GET /smuggled HTTP/1.1\r\n" + host + b"\r\n")
got = b""
try:
    while more := s.recv(4096): got += more
except OSError: pass
print("ok" if got.startswith(b"HTTP/1.1 200") and b"404" not in got and b"/smuggled" not in got else "taken", "nothing is smuggled", sep=":")
PYTHON
while IFS=: read -r word what; do check "$what" "$word" ok; done <"$work/raw"
check "all of them" "$(wc -l <"$work/raw")" 21

echo "# bodies that swell"
head -c 30000000 /dev/zero | gzip -9 >"$work/bomb.gz"
check "a packed body is not unpacked" "$(code -H "$J" -H 'Content-Encoding: gzip' --data-binary "@$work/bomb.gz" "$base/uploads")" 413
head -c 3000 /dev/zero | gzip -9 >"$work/small.gz"
check "nor a small one" "$(code -H "$J" -H 'Content-Encoding: gzip' --data-binary "@$work/small.gz" "$base/uploads")" 400
deep() { head -c "$1" /dev/zero | tr '\0' '['; }
check "JSON of a thousand levels" "$(deep 100000 | code -X PATCH -H "$J" -H 'If-Match: *' --data-binary @- "$base/assessments/none")" 413
check "JSON of two thousand levels" "$(deep 2000 | code -H "$J" --data-binary @- "$base/uploads")" 400
upload() { # file, name: status of its one piece
    local n id
    n=$(stat -c %s "$1")
    id=$(curl -sS -H "$J" -d "{\"name\":\"$2\",\"bytes\":$n}" "$base/uploads" | jq -r .id)
    code -X PATCH -H 'Content-Type: application/octet-stream' -H "Content-Range: bytes 0-$((n - 1))/$n" --data-binary "@$1" "$base/uploads/$id"
}
python3 -c 'import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as z: z.writestr("a.shp", bytes(5000000))' "$work/a.zip"
for name in a.tif a.gpkg a.geojson a.zip; do check "an archive called $name" "$(upload "$work/a.zip" $name)" 415; done
check "and a packed file" "$(upload "$work/small.gz" a.tif)" 415
check "nothing of them stays" "$(curl -sS "$base/uploads" | jq '.uploads | length')" 0

echo "# images that swell"
make_image() { gdal_create -q -ot Byte -bands "$1" -outsize "$2" "$2" -a_srs EPSG:32633 -a_ullr 500000 5200300 600000 5100300 "${@:4}" "$root/scenes/$3"; }
make_image 3 200000 wide.tif -co SPARSE_OK=TRUE -co TILED=YES -co COMPRESS=DEFLATE -co BIGTIFF=YES
make_image 1 60000 block.tif -co SPARSE_OK=TRUE -co TILED=YES -co BLOCKXSIZE=32768 -co BLOCKYSIZE=32768 -co COMPRESS=DEFLATE -co BIGTIFF=YES
check "120 gigabytes in 7 megabytes: what it is" "$(get "$base/files/info?ref=scenes/wide.tif" | jq -c '[.width,.problem]')" "[200000,null]"
check "and no picture of it" "$(get -o "$work/r" -w '%{http_code}' "$base/files/thumbnail.png?ref=scenes/wide.tif") $(jq -r .detail "$work/r" | grep -c gdaladdo)" "422 1"
check "blocks of a gigabyte" "$(get "$base/files/info?ref=scenes/block.tif" | jq -r .problem | grep -c 'blocks too large')" 1

echo "# a million points"
awk 'BEGIN { n = 1000000; pi = atan2(0, -1); printf "{\"type\":\"FeatureCollection\",\"features\":[{\"type\":\"Feature\",\"properties\":{\"id\":\"x\"},\"geometry\":{\"type\":\"Polygon\",\"coordinates\":[["
    for (i = 0; i <= n; i++) { a = i == n ? 0 : 2 * pi * i / n; r = 1.5e-3 + 1e-5 * (i % n % 2)
        printf "%s[%.9f,%.9f]", i ? "," : "", 15.002 + r * cos(a), 46.953 + r * sin(a) / 2 }
    print "]]}}]}" }' >"$root/scenes/million.geojson"
ogr2ogr -q -f GPKG "$root/scenes/million.gpkg" "$root/scenes/million.geojson"
check "as text: refused, with the way out" "$(get "$base/files/info?ref=scenes/million.geojson" | jq -r .problem | grep -c 'convert it to GeoPackage')" 1
check "as GeoPackage: described" "$(get "$base/files/info?ref=scenes/million.gpkg" | jq -c '[.layers[0].n,.problem]')" "[1,null]"
made() { curl -sS -m 60 -o "$work/r" -w '%{http_code}' -H "$J" "$base/assessments" -d "{\"id\":\"$1\",\"title\":\"T\",\"pre\":[\"scenes/$2\"],\"post\":[\"scenes/$3\"],
    \"footprints\":\"scenes/$4\",\"id_field\":\"$5\",\"size_m\":16,\"gsd_m\":0.5$6}"; }
ended() { timeout 200 curl -sSN "$base/jobs/$(jq -r .job.jobID "$work/r")/events" | grep '^data: ' | tail -1 | cut -c7- | jq -r .status; }
check "as an area" "$(made m pre.tif post.tif houses.gpkg bldg_id ',"aoi":"scenes/million.gpkg"') $(jq -r '.errors[0].pointer' "$work/r")" "422 /aoi"
# Its import is work for a process of its own, which has to be stoppable at any point of it.
check "as a footprint" "$(made m pre.tif post.tif million.gpkg id '')" 201
job=$base/jobs/$(jq -r .job.jobID "$work/r")
until get "$job" | jq -e '.status != "accepted"' >/dev/null; do sleep 0.1; done
check "meanwhile others are served" "$(code -m 5 "$base/healthz") $(code -m 20 "$base/assessments")" "200 200"
check "taken back" "$(code -X DELETE "$job" | grep -cE '^(200|409)$')" 1 # 409: it was quick
until get "$job" | jq -e '.status != "running"' >/dev/null; do sleep 0.1; done
check "and over" "$(get "$job" | jq -r .status | grep -cE '^(dismissed|failed|successful)$')" 1

echo "# no numbers"
house() { echo "{\"type\":\"Feature\",\"properties\":{\"id\":\"$1\"},\"geometry\":{\"type\":\"Polygon\",\"coordinates\":[[[$2,46.953],[15.0021,46.953],[15.0021,46.9531],[$2,46.953]]]}}"; }
echo "{\"type\":\"FeatureCollection\",\"features\":[$(house good 15.002),$(house nan NaN),$(house inf Infinity),$(house far 1e300)]}" >"$root/scenes/nan.geojson"
check "a file of them" "$(get "$base/files/info?ref=scenes/nan.geojson" | jq -r '.kind')" vector
check "as footprints" "$(made n pre.tif post.tif nan.geojson id '')" 201
state=$(ended)
check "the sound one is taken, or none" "$(echo "$state" | grep -cE '^(successful|failed)$')" 1
if [ "$state" = successful ]; then
    until [ "$(get "$base/assessments/n" | jq -r .state)" = ready ]; do sleep 0.1; done
    check "only numbers come out" "$(get "$base/collections/n.buildings/items" | jq -c '[.features[].geometry.coordinates | flatten | map(isnormal) | all] | all')" true
    check "only the sound one" "$(get "$base/collections/n.buildings/items" | jq -c '[.features[].properties.bldg_id]')" '["good"]'
fi
check "a shift that is none" "$(code -X PUT -H "$J" -H 'If-None-Match: *' -d '{"dmg_class":"none","shift":[NaN,0]}' "$base/assessments/n/labels/good")" 400
check "a shift without end" "$(code -X PUT -H "$J" -H 'If-None-Match: *' -d '{"dmg_class":"none","shift":[1e999,0]}' "$base/assessments/n/labels/good")" 422
check "an area of them" "$(made o pre.tif post.tif houses.gpkg bldg_id ',"aoi":{"type":"Polygon","coordinates":[[[15,46],[1e999,46],[15,47],[15,46]]]}') $(jq -r '.errors[0].pointer' "$work/r")" "422 /aoi"

echo "# both sides of the 180th meridian"
read -r x y _ < <(echo 180 -17 | gdaltransform -s_srs EPSG:4326 -t_srs EPSG:32760)
x=$(printf %.0f "$x") y=$(printf %.0f "$y")
for phase in a b; do
    gdal_create -q -ot Byte -bands 3 -burn 90 -burn 120 -burn 80 -outsize 600 300 -a_srs EPSG:32760 -a_ullr $((x - 150)) $((y + 75)) $((x + 150)) $((y - 75)) "$root/scenes/$phase.tif"
done
box() { echo "{\"type\":\"Feature\",\"properties\":{\"id\":\"$1\"},\"geometry\":{\"type\":\"Polygon\",\"coordinates\":[[[$2,$y],[$(($2 + 8)),$y],[$(($2 + 8)),$((y + 8))],[$2,$((y + 8))],[$2,$y]]]}}"; }
echo "{\"type\":\"FeatureCollection\",\"crs\":{\"type\":\"name\",\"properties\":{\"name\":\"urn:ogc:def:crs:EPSG::32760\"}},\"features\":[
    $(box w1 $((x - 100))),$(box w2 $((x - 60))),$(box w3 $((x - 40))),$(box on $((x - 4))),$(box e1 $((x + 40))),$(box e2 $((x + 80)))]}" >"$root/scenes/fiji.geojson"
check "made" "$(made f a.tif b.tif fiji.geojson id '')" 201
check "imported" "$(ended)" successful
until [ "$(get "$base/assessments/f" | jq -r .state)" = ready ]; do sleep 0.1; done
ids() { get "$base/collections/f.buildings/items?$1" | jq -r '[.features[].properties.bldg_id] | sort | join(" ")'; }
check "a box across it" "$(ids bbox=179.99,-18,-179.99,-16)" "e1 e2 on w1 w2 w3"
check "west of it" "$(ids bbox=179.99,-18,180,-16)" "on w1 w2 w3"
check "east of it" "$(ids bbox=-180,-18,-179.99,-16)" "e1 e2 on"
check "all around but there" "$(ids bbox=-179.9,-18,179.9,-16)" ""
get "$base/collections/f.buildings/items" >"$work/f"
check "the one upon it is in two parts, a side each" "$(jq -c '[.features[] | select(.properties.bldg_id=="on").geometry | .type, (.coordinates[] | [flatten | _nwise(2) | .[0]] | (max - min < 0.001))]' "$work/f")" '["MultiPolygon",true,true]'
check "no longitude beyond 180" "$(jq '[.features[].geometry.coordinates | flatten | _nwise(2) | .[0] | . <= 180 and . >= -180] | all' "$work/f")" true

echo "# afterwards"
check "the same server" "$(kill -0 $first && echo yes) $(code "$base/readyz")" "yes 200"
peak=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$first/status")
if grep -qE "__(a|t)san_init" "$program"; then
    echo "     its memory is the sanitizer's"
else
    check "no more than 400 MB at any time" "$([ "$peak" -lt 400000 ] && echo yes || echo "$peak kB")" yes
fi
[ $failed -eq 0 ] || { echo "$failed failed"; cat "$work/stderr"; exit 1; }
