#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What stands in front of the handlers: tokens and roles, cookies, Host and Origin, rates, TLS, slow and oversized requests,
# coordinate systems' axis order, tables, compression and the tiles' other names. Wanted numbers come from the fixture's
# formula, from openssl and from GDAL's own programs.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for tool in curl jq openssl gdaltransform gunzip; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done
. "$here/server.sh" "$1"
map=$work/demo
bash "$here/make_fixture.sh" "$map" || exit 1
stop_server() { kill "$server"; wait "$server" 2>/dev/null; server=; }

echo "# a bind that others can reach"
"$program" serve "$map" --bind 0.0.0.0 --port 0 --dry-run >/dev/null 2>"$work/e"
check "no tokens, no bind" "$?" 2
check "and it says what to do" "$(grep -c -- --token-file "$work/e")" 1
printf 'admin boss %s\neditor ana %s\nreader guest %s # read only\n' adminadminadminadmin editoreditoreditor readerreaderreader >"$work/tokens"
chmod 644 "$work/tokens"
"$program" serve "$map" --token-file "$work/tokens" --port 0 --dry-run >/dev/null 2>"$work/e"
check "a token file that others can read" "$?.$(grep -c 'chmod 600' "$work/e")" 3.1
chmod 600 "$work/tokens"
"$program" serve "$map" --bind 0.0.0.0 --token-file "$work/tokens" --port 0 --dry-run >/dev/null 2>&1
check "with tokens it binds" "$?" 0

echo "# tokens and cookies"
start_server "$map" --token-file "$work/tokens" --cors https://maps.example.org
items=$base/collections/demo.buildings/items
guest='Authorization: Bearer readerreaderreader'
# Slow clients work beside the other checks: header lines and a body, a byte at a time.
slow() { # what to send at first, seconds between bytes; prints how long the server stood it
    python3 -c '
import socket, sys, time
s = socket.create_connection(("127.0.0.1", int(sys.argv[1]))); s.settimeout(float(sys.argv[3])); t = time.time()
try:
    s.sendall(sys.argv[2].encode().decode("unicode_escape").encode())
    while time.time() - t < 60:
        s.sendall(b"x")
        try:
            if s.recv(1000) == b"": break
        except socket.timeout: pass
except OSError: pass
print(round(time.time() - t))' "${base##*:}" "$1" "$2"
}
slow 'GET / HTTP/1.1\r\nHost: localhost\r\nX: ' 0.5 >"$work/slow_header" &
slow_header=$!
slow 'POST /session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n' 0.2 >"$work/slow_body" &
slow_body=$!
check "page and health are open" "$(code "$base/?f=html") $(code "$base/healthz") $(code "$base/readyz")" "200 200 200"
check "data is not" "$(code "$items")" 401
check "and says how" "$(header WWW-Authenticate "$items")" 'Bearer realm="aftermap"'
check "a token opens it" "$(code -H "$guest" "$items")" 200
check "a wrong one does not" "$(code -H 'Authorization: Bearer readerreaderreadeX' "$items")" 401
check "half of one does not" "$(code -H 'Authorization: Bearer readerreader' "$items")" 401
check "another scheme does not" "$(code -u guest:readerreaderreader "$items")" 401
login() { curl -sS -c "$work/jar" -H 'Content-Type: application/json' -d "{\"token\":\"$1\"}" "$base/session"; }
check "a session" "$(login editoreditoreditor | jq -c '[.role,.name,.auth]')" '["editor","ana",true]'
check "the cookie is the browser's alone" "$(grep -c '#HttpOnly' "$work/jar")" 1
check "the cookie opens it" "$(code -b "$work/jar" "$items")" 200
check "who am I" "$(curl -sS -b "$work/jar" "$base/session" | jq -r .name)" ana
sed 's/ana\./boss./' "$work/jar" >"$work/forged"
check "another name in it does not" "$(code -b "$work/forged" "$items")" 401
check "a wrong token makes none" "$(login nonenonenonenone | jq -r .status)" 401
check "a body that is no JSON" "$(code -d 'token=x' "$base/session")" 415
check "a session too large" "$(head -c 9000 /dev/zero | tr '\0' x | code -H 'Content-Type: application/json' -d @- "$base/session")" 413

echo "# other sites"
J='Content-Type: application/json'
check "a write from another page" "$(code -H 'Origin: https://evil.example' -H "$J" -d '{"token":"x"}' "$base/session")" 403
check "a write across sites" "$(code -H 'Sec-Fetch-Site: cross-site' -H "$J" -d '{"token":"x"}' "$base/session")" 403
check "a write from our page" "$(code -H "Origin: $base" -H "$J" -d '{"token":"readerreaderreader"}' "$base/session")" 200
check "a rebound name" "$(code -H 'Host: evil.example' "$base/healthz")" 421
check "no permission for others" "$(header Access-Control-Allow-Origin -H 'Origin: https://evil.example' "$base/api")" ""
check "permission where given" "$(header Access-Control-Allow-Origin -H 'Origin: https://maps.example.org' "$base/api")" "https://maps.example.org"
check "preflight" "$(code -X OPTIONS -H 'Origin: https://maps.example.org' -H 'Access-Control-Request-Method: GET' "$base/api")" 204
check "no preflight for others" "$(code -X OPTIONS -H 'Origin: https://evil.example' -H 'Access-Control-Request-Method: GET' "$base/api")" 405
for line in 'X-Content-Type-Options=nosniff' 'X-Frame-Options=DENY' 'Referrer-Policy=no-referrer'; do
    check "${line%%=*}" "$(header "${line%%=*}" "$base/api")" "${line#*=}"
done
check "no frames" "$(header Content-Security-Policy "$base/?f=html" | grep -c "default-src 'self'.*frame-ancestors 'none'")" 1
check "workflow routes are not here" "$(code -H "$guest" "$base/jobs")" 404

echo "# coordinate systems"
EPSG=http://www.opengis.net/def/crs/EPSG/0
curl -sS -H "$guest" "$items?limit=1" >"$work/84"
lon=$(jq '.features[0].geometry.coordinates[0][0][0]' "$work/84") lat=$(jq '.features[0].geometry.coordinates[0][0][1]' "$work/84")
point() { curl -sS -H "$guest" "$items/1?crs=$1" | jq -r '.geometry.coordinates[0][0] | "\(.[0]) \(.[1])"'; }
check "4326 is latitude first" "$(point $EPSG/4326)" "$lat $lon"
near() { # what, "x y", "x y", tolerance
    check "$1" "$(echo "$2 $3 $4" | awk '{d=$1-$3; e=$2-$4; print (d<0?-d:d) <= $5 && (e<0?-e:e) <= $5}')" 1
}
near "3857 is gdaltransform's" "$(point $EPSG/3857)" "$(echo "$lon $lat" | gdaltransform -s_srs EPSG:4326 -t_srs EPSG:3857 2>/dev/null | cut -d' ' -f1,2 || true)" 0.02
near "the scene's own UTM" "$(point $EPSG/32633)" "500010 5200010" 5.1
check "Content-Crs" "$(header Content-Crs -H "$guest" "$items?limit=1&crs=$EPSG/32633")" "<$EPSG/32633>"
check "listed" "$(curl -sS -H "$guest" "$base/collections/demo.buildings" | jq -r '[.crs[] | split("/")[-1]] | join(" ")')" "CRS84 4326 3857 32633"
check "storageCrs" "$(curl -sS -H "$guest" "$base/collections/demo.buildings" | jq -r '.storageCrs | split("/")[-1]')" CRS84
check "another is refused" "$(code -H "$guest" "$items?crs=$EPSG/2154")" 400
matched() { curl -sS -H "$guest" "$items?limit=1&$1" | jq .numberMatched; }
check "bbox in UTM: six columns of squares" "$(matched "bbox=500009,5200009,500052,5200400&bbox-crs=$EPSG/32633")" 210
check "bbox in latitude, longitude" "$(matched "bbox=46,15.0,48,15.002&bbox-crs=$EPSG/4326")" "$(matched bbox=15.0,46,15.002,48)"

echo "# order, tables, compression"
p() { jq -r '[.features[].properties.p_dmg] | map(tostring) | join(" ")' "$1"; }
url="$items?sortby=-p_dmg&limit=300&dmg_class=destroyed" n=0
: >"$work/sorted"
while [ -n "$url" ] && [ $n -lt 20 ]; do
    curl -sS -H "$guest" "$url" >"$work/page"
    jq -r '.features[] | "\(.properties.p_dmg) \(.id)"' "$work/page" >>"$work/sorted"
    url=$(jq -r '.links[] | select(.rel=="next").href' "$work/page"); n=$((n + 1))
done
check "sorted: each once" "$(cut -d' ' -f2 "$work/sorted" | sort -u | wc -l)" 245
check "sorted: in order" "$(sort -k1,1gr -k2,2g "$work/sorted" | cmp -s - "$work/sorted" && echo yes)" yes
curl -sS -H "$guest" "$items?f=csv&limit=3" | tr -d '\r' >"$work/csv"
check "csv: columns" "$(head -1 "$work/csv")" "$(head -1 "$map/damage.csv" | tr -d '\r'),pre_date,post_date,lon,lat"
check "csv: rows" "$(wc -l <"$work/csv")" 4
check "csv: next in Link" "$(header Link -H "$guest" "$items?f=csv&limit=3" | grep -c 'f=csv.*after=f3>; rel="next"')" 1
check "gzip is the same" "$(curl -sS -H "$guest" -H 'Accept-Encoding: gzip' "$items?limit=50&f=csv" | gunzip | md5sum)" \
    "$(curl -sS -H "$guest" "$items?limit=50&f=csv" | md5sum)"
tag=$(header ETag -H "$guest" -H 'Accept-Encoding: gzip' "$base/collections/demo.buildings")
check "gzip has its own tag" "$(echo "$tag" | grep -c -- '-gz"')" 1
check "which validates" "$(code -H "$guest" -H 'Accept-Encoding: gzip' -H "If-None-Match: $tag" "$base/collections/demo.buildings")" 304

echo "# tiles by other names"
tile=$(curl -sS -H "$guest" "$base/tiles/demo/damage/tilejson.json" | jq -r '.tiles[0]')
zxy="18/$(awk 'BEGIN{pi=atan2(0,-1); l=46.9545*pi/180; n=2^18; printf "%d/%d", (15.0015+180)/360*n, (1-log(sin(l)/cos(l)+1/cos(l))/pi)/2*n}')"
IFS=/ read -r z x y <<<"$zxy"
curl -sS -H "$guest" -o "$work/xyz.png" "$base/tiles/demo/damage/$zxy.png"
curl -sS -H "$guest" -o "$work/ogc.png" "$base/collections/demo.buildings/map/tiles/WebMercatorQuad/$z/$y/$x"
check "OGC tiles have the row first" "$(cmp "$work/xyz.png" "$work/ogc.png" && file -b --mime-type "$work/ogc.png")" image/png
check "an empty tile" "$(code -H "$guest" "$base/collections/demo.buildings/map/tiles/WebMercatorQuad/5/0/0")" 204
check "outside the matrix" "$(code -H "$guest" "$base/collections/demo.buildings/map/tiles/WebMercatorQuad/1/2/0")" 404
check "scale of zoom 0" "$(curl -sS -H "$guest" "$base/tileMatrixSets/WebMercatorQuad" | jq '.tileMatrices[0].scaleDenominator | round')" 559082264
check "WMTS is XML with the layers a map has" "$(curl -sS -H "$guest" "$base/wmts/WMTSCapabilities.xml" | python3 -c '
import sys, xml.etree.ElementTree as e
print(len(e.parse(sys.stdin).findall(".//{http://www.opengis.net/wmts/1.0}Layer")))')" 5
check "metrics" "$(curl -sS -H "$guest" "$base/metrics" | grep -c '^aftermap_requests_total{route="getTile",code="2xx"} ')" 1

echo "# slow clients"
wait $slow_header $slow_body
check "header lines a byte at a time: 20 s" "$(awk '{print ($1 >= 19 && $1 <= 26)}' "$work/slow_header")" 1
check "a body a byte at a time: 10 s" "$(awk '{print ($1 >= 9 && $1 <= 16)}' "$work/slow_body")" 1
check "counted" "$(curl -sS -H "$guest" "$base/metrics" | grep '^aftermap_slow_connections_total')" "aftermap_slow_connections_total 2"
stop_server

echo "# rates"
start_server "$map" --rate 0.2
for _ in $(seq 40); do code "$base/healthz"; echo; done >"$work/codes"
check "forty at once are too many" "$(grep -c 429 "$work/codes" | awk '{print ($1 >= 10)}')" 1
check "with the time to wait" "$(header Retry-After "$base/healthz" | grep -cE '^[0-9]+$')" 1
stop_server

echo "# TLS"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$work/key" -out "$work/cert" -days 2 \
    -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1,DNS:localhost 2>/dev/null
start_server "$map" --tls-cert "$work/cert" --tls-key "$work/key"
check "address" "${base%%:*}" https
check "verified" "$(curl -sS --cacert "$work/cert" "$base/healthz")" '{"status":"ok"}'
check "links are https" "$(curl -sS --cacert "$work/cert" "$base/" | jq "[.links[].href | startswith(\"$base/\")] | all")" true
check "strict transport" "$(header Strict-Transport-Security --cacert "$work/cert" "$base/")" max-age=31536000
curl -sS --cacert "$work/cert" -r 0-99 -o "$work/part" "$base/assessments/demo/exports/damage.tif"
check "ranges" "$(cmp -n 100 "$work/part" "$map/damage.tif" && stat -c %s "$work/part")" 100
stop_server
"$program" serve "$map" --tls-cert "$work/cert" --port 0 --dry-run >/dev/null 2>&1
check "a certificate without its key" "$?" 2

[ $failed -eq 0 ] || { echo "$failed failed"; exit 1; }
