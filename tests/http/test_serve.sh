#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `aftermap serve` as its clients see it: curl and jq for the protocol, GDAL's own programs for the data. Expected numbers
# come from the fixture's formula and from the files themselves through ogrinfo, never from the server.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for tool in curl jq ogr2ogr gdalinfo cmp; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done
. "$here/server.sh" "$1"
map=$work/demo
bash "$here/make_fixture.sh" "$map" || exit 1
start_server "$map"
items=$base/collections/demo.buildings/items
get() { curl -sS "$@"; }

echo "# landing page, description, conformance, health"
check "landing: absolute links only" "$(get "$base/" | jq "[.links[].href | startswith(\"$base/\")] | all")" true
for rel in self service-desc service-doc conformance data; do
    url=$(get "$base/" | jq -r ".links[] | select(.rel==\"$rel\").href")
    check "landing: $rel answers" "$(code "$url")" 200
done
check "landing: html when asked" "$(header Content-Type -H 'Accept: text/html,*/*;q=0.8' "$base/")" "text/html; charset=utf-8"
check "landing: f=html" "$(header Content-Type "$base/?f=html")" "text/html; charset=utf-8"
check "landing: json for curl" "$(header Content-Type "$base/")" application/json
check "api: type" "$(header Content-Type "$base/api")" "application/vnd.oai.openapi+json;version=3.0"
check "api: version" "$(get "$base/api" | jq -r .openapi)" 3.0.3
check "api: operation ids are unique" "$(get "$base/api" | jq '[.paths[][] .operationId] | length == (unique | length)')" true
for path in '{collectionId}' demo.buildings; do
    check "api: items of $path declare the filters" "$(get "$base/api" | jq -r --arg p "/collections/$path/items" \
        '[.paths[$p].get.parameters[] | select(.in=="query").name] | sort | join(" ")')" \
        "after bbox bbox-crs bldg_id crs datetime dmg_class dmg_level f lbl_src limit max_p min_p reason sortby status zone_id"
done
# Every path without variables that the description names must answer.
for path in $(get "$base/api" | jq -r '.paths | keys[] | select(contains("{") | not)'); do
    check "api: $path answers" "$(code "$base$path")" 200
done
check "api.html" "$(header Content-Type "$base/api.html")" "text/html; charset=utf-8"
check "conformance: claims" "$(get "$base/conformance" | jq '.conformsTo | length')" 13
check "health" "$(get "$base/healthz")" '{"status":"ok"}'
check "ready" "$(code "$base/readyz")" 200

echo "# collections"
check "collections: buildings and images" "$(get "$base/collections" | jq -r '[.collections[].id] | join(" ")')" "demo.buildings demo.scenes"
box=$(ogrinfo -so "$map/damage.gpkg" buildings | sed -n 's/^Extent: (\(.*\), \(.*\)) - (\(.*\), \(.*\))/\1 \2 \3 \4/p')
check "collection: extent is OGR's" "$(get "$base/collections/demo.buildings" |
    jq -r '.extent.spatial.bbox[0] | map(. * 1e6 | round / 1e6 | tostring) | join(" ")')" "$(echo "$box" | jq -R -r 'split(" ") | map(tonumber * 1e6 | round / 1e6 | tostring) | join(" ")')"
check "collection: unknown" "$(code "$base/collections/other.buildings")" 404
check "schema: all columns" "$(get "$base/collections/demo.buildings/schema" | jq '.properties | length')" 21
check "queryables" "$(get "$base/collections/demo.buildings/queryables" | jq -r '.properties | keys | join(" ")')" \
    "bldg_id dmg_class dmg_level lbl_src reason status"
check "queryables: values of dmg_class" "$(get "$base/collections/demo.buildings/queryables" |
    jq -r '.properties.dmg_class.enum | sort | join(" ")')" "destroyed major minor none unknown"

echo "# items and paging"
check "items: type" "$(header Content-Type "$items")" application/geo+json
check "items: type for a client of plain JSON" "$(header Content-Type -H 'Accept: application/json' "$items?limit=1")" application/json
check "items: crs header" "$(header Content-Crs "$items?limit=1")" "<http://www.opengis.net/def/crs/OGC/1.3/CRS84>"
check "items: counts" "$(get "$items" | jq -c '[.numberMatched, .numberReturned, (.features | length)]')" "[1225,1000,1000]"
url="$items?limit=97&status=ok&f=json" pages=0 seen=
while [ -n "$url" ] && [ $pages -lt 50 ]; do
    get "$url" >"$work/page.json"
    seen="$seen $(jq -r '.features[].id' "$work/page.json" | tr '\n' ' ')"
    url=$(jq -r '.links[] | select(.rel=="next").href' "$work/page.json")
    [ -z "$url" ] || check "paging: next keeps the parameters ($pages)" \
        "$(echo "$url" | grep -c 'limit=97&status=ok&f=json&after=')" 1
    pages=$((pages + 1))
done
want=$(ogrinfo -q "$map/damage.gpkg" -sql "SELECT fid FROM buildings WHERE status='ok' ORDER BY fid" | sed -n 's/^ *fid (.*) = //p; s/^OGRFeature.*:\([0-9]*\)$/\1/p' | tr '\n' ' ')
check "paging: every building once, in order" "$(echo $seen | md5sum)" "$(echo $want | md5sum)"
check "items: limit above the most is the most" "$(get "$items?limit=99999" | jq .numberReturned)" 1225
check "items: 3 decimals" "$(get "$items?limit=1000" | jq '[.features[].properties | (.p_dmg, .entropy, .area_m2) | values | . * 1000 | . == (. | round) or ((. - (. | round)) | fabs) < 1e-9] | all')" true
check "items: exterior rings run counter-clockwise" "$(get "$items?limit=5" | jq '[.features[].geometry.coordinates[0] |
    . as $r | [range(0; length - 1) | $r[.][0] as $x | ($r[. + 1][1] * ($x - $r[0][0])) - ($r[.][1] * ($r[. + 1][0] - $r[0][0])) - $r[0][1] * ($x - $r[. + 1][0])] | add > 0] | all')" true
ogr2ogr -f GeoJSON -lco RFC7946=YES -lco COORDINATE_PRECISION=7 "$work/own.geojson" "$map/damage.gpkg"
get "$items?limit=2000" >"$work/all.geojson"
check "items: positions are OGR's" "$(jq -c '[.features[].geometry.coordinates[0][:4] | sort]' "$work/all.geojson" | md5sum)" \
    "$(jq -c '[.features[].geometry.coordinates[0][:4] | sort]' "$work/own.geojson" | md5sum)"

echo "# filters"
sql() { ogrinfo -q "$map/damage.gpkg" -sql "SELECT COUNT(*) AS n FROM buildings WHERE $1" | sed -n 's/^ *n (.*) = //p'; }
matched() { get "$items?limit=1&$1" | jq .numberMatched; }
check "dmg_class" "$(matched dmg_class=destroyed)" "$(sql "dmg_class='destroyed'")"
check "dmg_class: in fact 245" "$(matched dmg_class=destroyed)" 245
check "dmg_level" "$(matched dmg_level=-1)" "$(sql 'dmg_level=-1')"
check "status and level" "$(matched 'status=abstain&dmg_level=2')" "$(sql "status='abstain' AND dmg_level=2")"
check "reason" "$(matched reason=nodata)" "$(sql "reason='nodata'")"
check "bldg_id" "$(get "$items?bldg_id=b777" | jq -c '[.numberMatched, .features[0].id]')" "[1,777]"
check "min_p, as shown" "$(matched min_p=0.7)" "$(sql 'ROUND(p_dmg, 3) >= 0.7')"
check "min_p and max_p" "$(matched 'min_p=0.302&max_p=0.65')" "$(sql 'ROUND(p_dmg, 3) >= 0.302 AND ROUND(p_dmg, 3) <= 0.65')"
check "datetime" "$(matched datetime=2024-05-03T18:00:00Z/2024-05-05T00:00:00Z)" "$(sql "updated BETWEEN '2024-05-03' AND '2024-05-05'")"
check "datetime: open end" "$(matched datetime=2024-05-16/..)" "$(sql "updated >= '2024-05-16'")"
check "datetime: offset" "$(matched datetime=2024-05-16T01:00:00%2B02:00)" "$(sql "updated = '2024-05-15'")"
check "datetime: a date is a date" "$(get "$items/5" | jq -r .properties.updated)" 2024-05-06
rect="15.0008123456789012 46.9541 15.0021 46.95503"
check "bbox: as OGR's -spat, 17 digits" "$(matched "bbox=$(echo $rect | tr ' ' ',')")" \
    "$(ogrinfo -so -spat $rect "$map/damage.gpkg" buildings | sed -n 's/^Feature Count: //p')"
check "bbox: six numbers" "$(matched "bbox=15.0008,46.9541,0,15.0021,46.95503,100")" "$(matched bbox=15.0008,46.9541,15.0021,46.95503)"
check "bbox: across the 180th meridian" "$(matched bbox=170,40,-170,50)" 0
check "bbox: the long way round" "$(matched bbox=14.9,40,14.8,50)" 1225
check "bbox: half the long way round" "$(matched bbox=15.002,40,14,50)" "$(matched bbox=15.002,40,180,50)"
check "bbox: elsewhere" "$(matched bbox=0,0,1,1)" 0

echo "# one building"
check "item" "$(get "$items/5" | jq -c '[.id, .properties.bldg_id, .properties.dmg_class, .properties.p_dmg]')" '[5,"b5","destroyed",0.905]'
check "item: when its images were taken" "$(get "$items/5" | jq -c '.properties | [.pre_date, .post_date]')" '["2024-04-30",null]'
check "schema: dates" "$(get "$base/collections/demo.buildings/schema" | jq -c '.properties | [.pre_date.format, .post_date.format]')" '["date","date"]'
tag=$(header ETag "$items/5")
check "item: 304" "$(code -H "If-None-Match: $tag" "$items/5")" 304
check "item: another tag" "$(code -H 'If-None-Match: "x"' "$items/5")" 200
for id in 0 1226 x 5x 99999999999999999999; do check "item: $id" "$(code "$items/$id")" 404; done

echo "# errors are problem documents"
problem() { # what, wanted status, url, parameter
    local got
    got=$(curl -s -o "$work/p" -w '%{http_code} %{content_type}' "${@:5}" "$3")
    check "$1" "$got" "$2 application/problem+json"
    check "$1: document" "$(jq -r '[.status, (.detail | length > 10), (.instance | length > 4), (.errors[0].parameter // "")] | map(tostring) | join(" ")' "$work/p")" "$2 true true $4"
}
problem "unknown parameter" 400 "$items?colour=red" colour
problem "limit 0" 400 "$items?limit=0" limit
problem "limit text" 400 "$items?limit=ten" limit
problem "bbox of three" 400 "$items?bbox=1,2,3" bbox
problem "bbox upside down" 400 "$items?bbox=1,3,2,2" bbox
problem "bbox not finite" 400 "$items?bbox=nan,0,1,1" bbox
problem "bbox infinite" 400 "$items?bbox=0,0,1e999,1" bbox
problem "min_p" 400 "$items?min_p=2" min_p
problem "dmg_level" 400 "$items?dmg_level=high" dmg_level
problem "datetime" 400 "$items?datetime=yesterday" datetime
problem "after" 400 "$items?after=12" after
problem "f" 400 "$items?f=shp" f
problem "twice" 400 "$items?limit=1&limit=2" ""
problem "not acceptable" 406 "$items" "" -H 'Accept: application/gml+xml'
problem "no such thing" 404 "$base/nothing" ""
problem "bad escape" 400 "$base/%zz" ""
problem "encoded NUL" 400 "$base/collections%00x" ""
problem "bad UTF-8" 400 "$items?bldg_id=%ff%fe" ""
problem "dots" 400 "$base/collections/%2e%2e/x" ""
problem "long" 414 "$items?bldg_id=$(printf 'a%.0s' $(seq 5000))" ""
problem "foreign host" 421 "$base/" "" -H 'Host: evil.example:80'
problem "post" 405 "$items" "" -X POST -d x=1
problem "delete" 405 "$base/" "" -X DELETE
check "header too large" "$(code -H "X-Long: $(printf 'a%.0s' $(seq 60000))" "$base/")" 431
check "a target that is no path" "$(code --request-target http://evil.example/ "$base/")" 400
check "405: Allow" "$(header Allow -X PUT -d x "$base/collections")" "GET, HEAD"
check "request id is kept" "$(header X-Request-Id -H 'X-Request-Id: job-7.a' "$base/healthz")" job-7.a
check "request id is not believed" "$(header X-Request-Id -H 'X-Request-Id: <b>' "$base/healthz" | grep -c '<')" 0
check "a body with GET is read past" "$(code -X GET -d hello "$base/healthz")" 200
check "localhost is one of its names" "$(get -H 'Host: localhost:9' "$base/" | jq -r '.links[0].href')" "http://localhost:9/"

echo "# headers"
check "csp" "$(header Content-Security-Policy "$base/" | grep -c "default-src 'self'.*frame-ancestors 'none'")" 1
check "nosniff" "$(header X-Content-Type-Options "$items?limit=1")" nosniff
check "no CORS" "$(curl -s -D - -o /dev/null -H 'Origin: http://a.example' "$base/collections" | grep -ci access-control)" 0
for path in / /collections /api /conformance; do
    check "HEAD $path" "$(curl -s -I -o "$work/h" -w '%{http_code} %{size_download}' "$base$path")" "200 0"
    check "HEAD $path: length" "$(sed -n 's/^Content-Length: //p' "$work/h" | tr -d '\r')" "$(get "$base$path" | wc -c)"
done

echo "# exports"
exports=$base/assessments/demo/exports
for name in damage.tif prob.tif damage.gpkg damage.geojson damage.csv run.json; do
    get "$exports/$name" >"$work/got"
    check "$name: same bytes" "$(cmp "$work/got" "$map/$name" && echo same)" same
    check "$name: linked" "$(get "$base/assessments/demo" | jq "[.links[] | select(.href==\"$exports/$name\")] | length")" 1
done
sums() { ogrinfo -ro -q "$1" -sql "SELECT COUNT(*) AS n, SUM(fid_level) AS l FROM (SELECT dmg_level AS fid_level FROM \"$2\")" -dialect SQLite | sed -n 's/^  [nl] .*= //p' | paste -sd' '; }
for name in damage.fgb damage.zip damage.xlsx; do # made when asked for
    file=$work/$name layer=damage
    [ $name = damage.zip ] && file=/vsizip/$work/$name
    get "$exports/$name" >"$work/$name"
    check "$name: the same buildings" "$(sums "$file" $layer)" "$(sums "$map/damage.gpkg" buildings)"
    check "$name: linked" "$(get "$base/assessments/demo" | jq "[.links[] | select(.href==\"$exports/$name\")] | length")" 1
done
check "damage.fgb: where they are" "$(ogrinfo -so -spat 15.0008 46.9541 15.0021 46.95503 "$work/damage.fgb" damage | sed -n 's/^Feature Count: //p')" \
    "$(ogrinfo -so -spat 15.0008 46.9541 15.0021 46.95503 "$map/damage.gpkg" buildings | sed -n 's/^Feature Count: //p')"
size=$(stat -c %s "$map/damage.tif")
tif=$exports/damage.tif
check "disposition" "$(header Content-Disposition "$tif")" 'attachment; filename="demo-damage.tif"'
check "type" "$(header Content-Type "$tif")" "image/tiff; application=geotiff; profile=cloud-optimized"
range() { # Range value, first byte, count
    check "range $1: status" "$(curl -s -o "$work/part" -w '%{http_code}' -H "Range: $1" "$tif")" 206
    tail -c +$(($2 + 1)) "$map/damage.tif" | head -c "$3" >"$work/want"
    check "range $1: bytes" "$(cmp "$work/part" "$work/want" && echo same)" same
}
range bytes=0-99 0 100
range bytes=1000-1000 1000 1
range bytes=500- 500 $((size - 500))
range bytes=-77 $((size - 77)) 77
range bytes=0-99999999 0 "$size"
range bytes=-99999999 0 "$size"
check "range: Content-Range" "$(header Content-Range -H 'Range: bytes=10-19' "$tif")" "bytes 10-19/$size"
check "range: beyond" "$(code -H "Range: bytes=$size-" "$tif")" 416
check "range: beyond, size" "$(header Content-Range -H "Range: bytes=$size-" "$tif")" "bytes */$size"
for value in bytes=5-1 bytes=a-b lines=1-2 bytes=0-1,4-5; do
    check "range $value: whole" "$(curl -s -o /dev/null -w '%{http_code} %{size_download}' -H "Range: $value" "$tif")" "200 $size"
done
tag=$(header ETag "$tif")
check "export: 304" "$(code -H "If-None-Match: $tag" "$tif")" 304
check "export: If-Range, same" "$(code -H "If-Range: $tag" -H 'Range: bytes=0-9' "$tif")" 206
check "export: If-Range, other" "$(code -H 'If-Range: "old"' -H 'Range: bytes=0-9' "$tif")" 200
check "export: HEAD" "$(curl -s -I "$tif" | tr -d '\r' | grep -c -e "^Content-Length: $size$" -e '^Accept-Ranges: bytes$')" 2
for name in damage.tif.aux.xml damage.tif.ovr damage.tfw pre.tif ..%2fdamage.tif %2e%2e%2frun.json /etc/passwd '..%2f..%2f..%2f..%2fetc%2fpasswd' '' . damage.tif%00.png; do
    got=$(code --path-as-is "$exports/$name")
    check "not an export: '$name'" "$([ "$got" = 404 ] || [ "$got" = 400 ] && echo refused)" refused
done
check "traversal" "$(code --path-as-is "$exports/../../../../../etc/passwd")" 400

echo "# tiles"
z=17 x=70998 y=46125
for layer in pre post damage; do
    url=$base/tiles/demo/$layer/$z/$x/$y.png
    get "$url" >"$work/$layer.png"
    check "$layer: PNG" "$(gdalinfo "$work/$layer.png" | grep -c -e 'PNG/Portable' -e 'Size is 256, 256' -e 'ColorInterp=Alpha')" 3
    check "$layer: 304" "$(code -H "If-None-Match: $(header ETag "$url")" "$url")" 304
    check "$layer: revalidated" "$(header Cache-Control "$url")" no-cache
    check "$layer: kept with rev" "$(header Cache-Control "$url?rev=1")" "public, max-age=31536000, immutable"
    check "$layer: empty" "$(code "$base/tiles/demo/$layer/10/0/0.png")" 204
    for tile in 2/4/0 2/0/4 25/0/0 01/0/0 -1/0/0 1/0/x 1/0/0.5; do
        check "$layer: $tile" "$(code "$base/tiles/demo/$layer/$tile.png")" 404
    done
done
# The same ground warped by gdalwarp from the source raster: mean colours must agree.
half=20037508.342789244
read -r west south east north < <(awk -v h=$half -v z=$z -v x=$x -v y=$y 'BEGIN { s = 2 * h / 2 ^ z; printf "%.6f %.6f %.6f %.6f", -h + x * s, h - (y + 1) * s, -h + (x + 1) * s, h - y * s }')
mean() { gdalinfo -stats -json "$1" | jq -c '[.bands[:3][] | .mean | round]'; }
gdalwarp -q -overwrite -t_srs EPSG:3857 -te "$west" "$south" "$east" "$north" -ts 256 256 -r bilinear "$map/pre.tif" "$work/warped.tif" 2>/dev/null
check "pre: colours as gdalwarp makes them" "$(jq -n --argjson a "$(mean "$work/warped.tif")" --argjson b "$(mean "$work/pre.png")" '[range(3) | ($a[.] - $b[.]) | fabs <= 2] | all')" true
# Damage colours: only the palette's, each where the class raster has it.
gdalwarp -q -overwrite -t_srs EPSG:3857 -te "$west" "$south" "$east" "$north" -ts 256 256 -r near "$map/damage.tif" "$work/codes.tif" 2>/dev/null
share() { # raster, value of band 1: pixels that have it, in per cent of the tile
    gdal_translate -q -of XYZ -b 1 "$1" "$work/xyz" && awk -v v="$2" '$3 == v { n++ } END { printf "%d", n * 100 / 65536 + 0.5 }' "$work/xyz"
}
check "damage: destroyed in its colour" "$(($(share "$work/damage.png" 122) - $(share "$work/codes.tif" 4)))" 0
check "damage: minor in its colour" "$(($(share "$work/damage.png" 253) - $(share "$work/codes.tif" 2)))" 0
check "damage: something is destroyed" "$([ "$(share "$work/codes.tif" 4)" -gt 2 ] && echo yes)" yes
check "tilejson" "$(get "$base/tiles/demo/pre/tilejson.json" | jq -r '.tiles[0], .date')" "$base/tiles/demo/pre/{z}/{x}/{y}.png
2024-04-30"
# The fixture's probabilities are one half everywhere: the middle of one ramp, the end of the other.
for layer in prob=241,105,19,255 uncertainty=63,0,125,255; do
    get "$base/tiles/demo/${layer%%=*}/17/$x/$y.png" >"$work/ramp.png"
    check "${layer%%=*}: colour of one half" "$(gdallocationinfo -valonly "$work/ramp.png" 128 128 | paste -sd,)" "${layer#*=}"
done
check "shift: not without its event" "$(code "$base/tiles/demo/shift/17/$x/$y.png")" 404
check "tilejson: unknown layer" "$(code "$base/tiles/demo/heat/tilejson.json")" 404

echo "# GDAL as a client"
export GDAL_PAM_ENABLED=NO GDAL_HTTP_MAX_RETRY=0
oapif=OAPIF:$base/
quiet() { # what, command: succeeds and says nothing on stderr
    local what=$1
    shift
    "$@" >"$work/out" 2>"$work/warnings"
    check "$what: exit" $? 0
    check "$what: no warning" "$(cat "$work/warnings")" ""
}
quiet "ogrinfo OAPIF" ogrinfo -so "$oapif" demo.buildings
check "ogrinfo OAPIF: count" "$(sed -n 's/^Feature Count: //p' "$work/out")" 1225
quiet "ogr2ogr OAPIF" ogr2ogr -f GPKG "$work/copy.gpkg" "$oapif" demo.buildings -oo PAGE_SIZE=300
check "ogr2ogr OAPIF: all" "$(ogrinfo -so "$work/copy.gpkg" demo.buildings | sed -n 's/^Feature Count: //p')" 1225
quiet "ogr2ogr OAPIF, 10 a page" ogr2ogr -f GPKG "$work/pages.gpkg" "$oapif" demo.buildings
check "ogr2ogr OAPIF, 10 a page: all" "$(ogrinfo -so "$work/pages.gpkg" demo.buildings | sed -n 's/^Feature Count: //p')" 1225
quiet "ogr2ogr OAPIF -where -spat" ogr2ogr -f GPKG "$work/some.gpkg" "$oapif" demo.buildings -oo PAGE_SIZE=10000 -where "dmg_class='destroyed'" -spat $rect
check "ogr2ogr OAPIF -where -spat: count" "$(ogrinfo -so "$work/some.gpkg" demo.buildings | sed -n 's/^Feature Count: //p')" \
    "$(ogrinfo -so -where "dmg_class='destroyed'" -spat $rect "$map/damage.gpkg" buildings | sed -n 's/^Feature Count: //p')"
CPL_DEBUG=ON ogrinfo -al "$oapif" demo.buildings -where "dmg_class='destroyed'" >"$work/out" 2>"$work/debug"
check "ogrinfo -where reaches the server" "$(grep -c 'items?.*dmg_class=destroyed' "$work/debug" | sed 's/^[1-9].*/yes/')" yes
quiet "ogrinfo -fid" ogrinfo "$oapif" demo.buildings -fid 7
check "ogrinfo -fid: the one" "$(grep -c 'bldg_id (String) = b7$' "$work/out")" 1
export GDAL_DISABLE_READDIR_ON_OPEN=EMPTY_DIR
quiet "gdalinfo /vsicurl" gdalinfo -checksum "/vsicurl/$tif"
check "gdalinfo /vsicurl: checksum" "$(grep Checksum "$work/out")" "$(gdalinfo -checksum "$map/damage.tif" | grep Checksum)"
quiet "gdal_translate /vsicurl" gdal_translate -q -srcwin 10 20 64 64 "/vsicurl/$tif" "$work/clip.tif"
cat >"$work/xyz.xml" <<XML
<GDAL_WMS><Service name="TMS"><ServerUrl>$base/tiles/demo/post/\${z}/\${x}/\${y}.png</ServerUrl></Service>
<DataWindow><UpperLeftX>-$half</UpperLeftX><UpperLeftY>$half</UpperLeftY><LowerRightX>$half</LowerRightX><LowerRightY>-$half</LowerRightY>
<TileLevel>18</TileLevel><TileCountX>1</TileCountX><TileCountY>1</TileCountY><YOrigin>top</YOrigin></DataWindow>
<Projection>EPSG:3857</Projection><BlockSizeX>256</BlockSizeX><BlockSizeY>256</BlockSizeY><BandsCount>4</BandsCount></GDAL_WMS>
XML
quiet "XYZ tiles" gdal_translate -q -projwin "$west" "$north" "$east" "$south" "$work/xyz.xml" "$work/mosaic.tif"
check "XYZ tiles: something there" "$(gdalinfo -mm -json "$work/mosaic.tif" | jq '.bands[3].computedMax == 255')" true

echo "# many at once"
seq 200 | xargs -P 16 -I N curl -s -o /dev/null -w '%{http_code}\n' "$items?limit=100&bldg_id=bN" >"$work/codes"
seq 60 | xargs -P 16 -I N curl -s -o /dev/null -w '%{http_code}\n' "$base/tiles/demo/post/18/$((141996))/922N.png" >>"$work/codes"
check "200 requests by 16 clients" "$(head -n 200 "$work/codes" | sort -u | tr '\n' ' ')" "200 "
check "tiles by 16 clients" "$(tail -n 60 "$work/codes" | grep -cv -e 200 -e 204)" 0
check "still well" "$(code "$base/healthz")" 200

echo "# stopping and starting"
kill -TERM "$server"
wait "$server"
check "a stopped server ends well" "$?" 0
server=

refuses() { # what, exit status, words of the sentence, arguments
    timeout 20 "$program" serve "${@:4}" >"$work/out" 2>"$work/err"
    check "$1: exit" $? "$2"
    check "$1: one sentence" "$(grep -c -- "$3" "$work/err")" 1
}
refuses "other address" 2 "reached from other machines" "$map" --bind 0.0.0.0 --port 0
refuses "no address" 2 "no address" "$map" --bind nowhere --port 0
refuses "no map" 3 "holds no run.json" "$work" --port 0
refuses "no folder" 3 "is no folder" "$work/none" --port 0
mkdir "$work/bad" && cp "$map"/damage.* "$map/run.json" "$work/bad" && head -c 3000 "$map/damage.gpkg" >"$work/bad/damage.gpkg"
refuses "cut GeoPackage" 3 "damage.gpkg" "$work/bad" --port 0
cp "$map/damage.gpkg" "$work/bad" && echo '{"inputs":' >"$work/bad/run.json"
refuses "cut run.json" 3 "run.json" "$work/bad" --port 0

echo "# rasters named by a hostile run.json"
printf '<VRTDataset rasterXSize="9" rasterYSize="9"><SRS>EPSG:32633</SRS><GeoTransform>500000,1,0,5200300,0,-1</GeoTransform><VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand"><SourceFilename>/etc/hostname</SourceFilename></VRTRasterBand></VRTDataset>' >"$work/bad/x.tif"
jq -n --arg d "$work/bad" '{inputs: {pre: ["/vsicurl/http://127.0.0.1:9/x.tif", "https://127.0.0.1:9/x.tif", "<VRTDataset/>", "relative.tif", ($d + "/x.tif")], post: [7]}}' >"$work/bad/run.json"
start_server "$map" "$work/bad" "$map"
check "two maps of one name" "$(get "$base/assessments" | jq -r '[.assessments[].id] | join(" ")')" "demo bad demo-2"
check "layers: left out, with the reason" "$(get "$base/assessments/bad" | jq -c '[.layers[] | [.id, .available, (.reason // "" | length > 10)]]')" \
    '[["pre",false,true],["post",false,true],["damage",true,false],["prob",false,true],["uncertainty",false,true],["shift",false,true]]'
check "tiles of it" "$(code "$base/tiles/bad/pre/17/$x/$y.png")" 404
check "the rest works" "$(code "$base/tiles/bad/damage/17/$x/$y.png")" 200
mv "$work/bad/damage.gpkg" "$work/bad/gone"
check "not ready without its files" "$(code "$base/readyz")" 503

echo "$failed failed"
[ "$failed" = 0 ]
