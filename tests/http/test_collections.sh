#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The collections beside the buildings - labels, zones, scenes, area of interest - as curl and ogrinfo see them, and an
# assessment of only the footprints that touch an area. Wanted numbers come from the fixture's formula: 35 x 35 squares of
# 5 m, 8 m apart, from (500010, 5200010) in UTM zone 33.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for tool in curl jq ogr2ogr ogrinfo gdaltransform; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done
. "$here/server.sh" "$1"
make_data_root
# Two zones: seven columns and ten columns of squares; the second in two parts.
square() { echo "{\"type\":\"Feature\",\"properties\":{\"code\":\"$1\",\"title\":\"$2\"},\"geometry\":{\"type\":\"Polygon\",\"coordinates\":[[[$3,5200000],[$4,5200000],[$4,5200300],[$3,5200300],[$3,5200000]]]}}"; }
echo "{\"type\":\"FeatureCollection\",\"crs\":{\"type\":\"name\",\"properties\":{\"name\":\"urn:ogc:def:crs:EPSG::32633\"}},\"features\":[
    $(square A West 500009 500065),$(square B Mid 500065 500105),$(square B Mid 500105 500145)]}" >"$root/scenes/zones.geojson"
start_server --data-root "$root"
J='Content-Type: application/json'
get() { curl -sS "$@"; }
# The area: the first twelve columns, in degrees.
corner() { echo "$1 $2" | gdaltransform -s_srs EPSG:32633 -t_srs EPSG:4326 -output_xy | tr ' ' ','; }
aoi="{\"type\":\"Polygon\",\"coordinates\":[[[$(corner 500009 5200000)],[$(corner 500104 5200000)],[$(corner 500104 5200300)],[$(corner 500009 5200300)],[$(corner 500009 5200000)]]]}"
new() { curl -sS -o "$work/r" -w '%{http_code}' -H "$J" -d "{\"id\":\"$1\",\"title\":\"T\",\"pre\":[\"scenes/pre.tif\"],\"post\":[\"scenes/post.tif\"],\"footprints\":\"scenes/houses.gpkg\",\"size_m\":16,\"gsd_m\":0.5,\"id_field\":\"bldg_id\",$2}" "$base/assessments"; }

echo "# what cannot be"
check "zones without their column" "$(new a '"zones":{"ref":"scenes/zones.geojson","id_field":"nope"}') $(jq -r '.errors[0].pointer' "$work/r")" "422 /zones"
check "an area that is a line" "$(new a '"aoi":{"type":"LineString","coordinates":[[15,46],[15,47]]}') $(jq -r '.errors[0].pointer' "$work/r")" "422 /aoi"
check "an area that crosses itself" "$(new a '"aoi":{"type":"Polygon","coordinates":[[[15,46],[16,47],[16,46],[15,47],[15,46]]]}')" 422
check "an area with latitude first" "$(new a '"aoi":{"type":"Polygon","coordinates":[[[46,150],[47,150],[47,151],[46,150]]]}')" 422

echo "# an assessment of an area"
check "made" "$(new t "\"zones\":{\"ref\":\"scenes/zones.geojson\",\"id_field\":\"code\",\"name_field\":\"title\"},\"aoi\":$aoi")" 201
A=$base/assessments/t
for _ in $(seq 600); do [ "$(get "$A" | jq -r .state)" = ready ] && break; sleep 0.2; done
check "only its buildings" "$(get "$A" | jq -c '[.state,.buildings,.zones.id_field,.aoi.type]')" '["ready",420,"code","Polygon"]'
check "collections" "$(get "$base/collections" | jq -r '[.collections[].id] | sort | join(" ")')" "t.aoi t.buildings t.labels t.scenes t.zones"
check "no other" "$(code "$base/collections/t.nope") $(code "$base/collections/x.labels/items")" "404 404"
check "in /api" "$(get "$base/api" | jq '[.paths | keys[] | select(startswith("/collections/t.labels"))] | length')" 5

echo "# scenes and area"
check "two images" "$(get "$base/collections/t.scenes/items" | jq -c '[.features[].properties | [.phase,.width,.gsd_m]]')" '[["pre",600,0.5],["post",'"$(gdalinfo -json "$work/fix/post.tif" | jq '.size[0]'),$(get "$base/collections/t.scenes/items/2" | jq .properties.gsd_m)]]"
check "the image's corner" "$(get "$base/collections/t.scenes/items/1?crs=http://www.opengis.net/def/crs/EPSG/0/32633" | jq -c '[.geometry.coordinates[0][] | map(round)] | [(map(.[0]) | min, max), (map(.[1]) | min, max)]')" "[500000,500300,5200000,5200300]"
check "the area" "$(get "$base/collections/t.aoi/items" | jq -c '[.numberMatched,(.features[0].geometry.coordinates[0] | length)]')" "[1,5]"

echo "# zones"
get "$base/collections/t.zones/items" >"$work/z"
check "counts of buildings" "$(jq -c '[.features[].properties | [.zone_id,.zone_name,.n_bldg,.n_unknown]]' "$work/z")" '[["A","West",245,245],["B","Mid",175,175]]'
check "a zone of two parts" "$(jq -c '.features[1].geometry | [.type, (.coordinates | length)]' "$work/z")" '["MultiPolygon",2]'
check "by its id" "$(get "$base/collections/t.zones/items?zone_id=B" | jq -c '[.features[].id]')" "[2]"

echo "# labels"
check "none" "$(get "$base/collections/t.labels/items" | jq .numberMatched)" 0
printf 'bldg_id,grade,by,note,reason\nb1,minor,ana,"say ""hi""",\nb2,3,ben,,\nb3,none,ana,,\nb4,unknown,ana,,cloud\nb5,major,ana,,\n' >"$work/l.csv"
check "taken" "$(curl -sS -H 'Content-Type: text/csv' --data-binary "@$work/l.csv" "$A/labels" | jq -c '[.created,.n_refused]')" "[5,0]"
get "$base/collections/t.labels/items" >"$work/l"
check "all" "$(jq -c '[.features[].properties | [.bldg_id,.dmg_class,.dmg_level,.lbl_by]] | sort' "$work/l")" \
    '[["b1","minor",1,"ana"],["b2","destroyed",3,"ben"],["b3","none",0,"ana"],["b4","unknown",-1,"ana"],["b5","major",2,"ana"]]'
check "reason and note" "$(jq -c '[.features[].properties | select(.bldg_id=="b4" or .bldg_id=="b1") | [.reason,.note]] | sort' "$work/l")" '[["","say \"hi\""],["cloud",""]]'
check "a class" "$(get "$base/collections/t.labels/items?dmg_class=major" | jq -r '.features[].properties.bldg_id')" b5
fid=$(jq '.features[] | select(.properties.bldg_id=="b2") | .id' "$work/l")
check "the building's number and outline" "$(get "$base/collections/t.labels/items/$fid" | jq -c .geometry)" "$(get "$base/collections/t.buildings/items/$fid" | jq -c .geometry)"
check "changed at once" "$(curl -sS -o /dev/null -w '%{http_code} ' -X PUT -H "$J" -H 'If-None-Match: *' -d '{"dmg_class":"none","by":"ana"}' "$A/labels/b6"; get "$base/collections/t.labels/items?dmg_class=none" | jq .numberMatched)" "201 2"
check "as a table" "$(get "$base/collections/t.labels/items?f=csv" | wc -l)" 7
check "ogrinfo: a class" "$(ogrinfo -so "OAPIF:$base" t.labels -where "dmg_class='none'" 2>"$work/e" | sed -n 's/^Feature Count: //p')$(cat "$work/e")" 2

echo "# files"
for f in labels.gpkg labels.geojson labels.fgb labels.xlsx zones.gpkg zones.geojson zones.fgb; do
    get "$A/exports/$f" >"$work/x-$f"
    check "$f: as many as the collection" "$(ogrinfo -so -al "$work/x-$f" 2>"$work/e" | sed -n 's/^Feature Count: //p')$(cat "$work/e")" "$(get "$base/collections/t.${f%%.*}/items" | jq .numberMatched)"
done
check "labels.csv" "$(get "$A/exports/labels.csv" | tr -d '\r' | grep -c '^"POLYGON.*",b[1-6],')" 6
check "its name" "$(header Content-Disposition "$A/exports/labels.csv")" 'attachment; filename="t-labels.csv"'
check "linked" "$(get "$A" | jq '[.links[] | select(.rel=="enclosure" or .rel=="alternate").href | select(test("exports/(labels|zones|scenes|aoi)[.]"))] | length')" 24
check "no other file" "$(code "$A/exports/labels.exe") $(code "$A/exports/labels")" "404 404"

echo "# a shift as an arrow"
check "no arrows yet" "$(get "$A" | jq -c '.layers[] | select(.id=="shift") | .available')" false
check "set by hand" "$(curl -sS -o /dev/null -w '%{http_code}' -X PUT -H "$J" -H 'If-None-Match: *' -d '{"dmg_class":"minor","shift":[4,-2],"by":"ana"}' "$A/labels/b180")" 201
job=$(curl -sS -H "$J" -d '{"inputs":{"assessment":"t","action":"hand"}}' "$base/processes/align/execution" | jq -r .jobID)
for _ in $(seq 300); do get "$base/jobs/$job" | jq -e '.status=="accepted" or .status=="running"' >/dev/null || break; sleep 0.2; done
for _ in $(seq 50); do [ "$(get "$A" | jq -c '.layers[] | select(.id=="shift") | .available')" = true ] && break; sleep 0.2; done
read -r lon lat < <(get "$A/buildings/b180" | jq -r '"\(.lon) \(.lat)"')
read -r x y < <(awk -v lon="$lon" -v lat="$lat" 'BEGIN { n = 2 ^ 19; r = lat * atan2(0, -1) / 180
    printf "%d %d\n", (lon + 180) / 360 * n, (1 - log(sin(r) / cos(r) + 1 / cos(r)) / atan2(0, -1)) / 2 * n }')
get "$base/tiles/t/shift/19/$x/$y.png" >"$work/arrow.png"
# Red 8 is the colour of shifts that are well known.
check "dark strokes on nothing" "$(gdal_translate -q -of XYZ -b 1 "$work/arrow.png" /vsistdout/ 2>/dev/null | awk '$3 == 8 { n++ } $3 == 0 { m++ }
    END { print (n > 20 && n < 2000 && m > 50000) ? "yes" : n " of " m }')" yes

echo "# zones changed"
check "taken away" "$(curl -sS -X PATCH -H "$J" -H "If-Match: $(get "$A" | jq -r .etag)" -d '{"zones":null}' "$A" | jq -c '[.zones,.aoi.type]')" '[null,"Polygon"]'
check "no such collection now" "$(code "$base/collections/t.zones/items")" 404
check "given again" "$(curl -sS -X PATCH -H "$J" -H "If-Match: $(get "$A" | jq -r .etag)" -d '{"zones":{"ref":"scenes/zones.geojson","id_field":"title"}}' "$A" | jq -c .zones)" '{"ref":"scenes/zones.geojson","id_field":"title"}'
check "by another column" "$(get "$base/collections/t.zones/items" | jq -c '[.features[].properties.zone_id]')" '["West","Mid"]'
[ $failed -eq 0 ] || { echo "$failed failed"; cat "$work/stderr"; exit 1; }
