#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `aftermap serve --data-root`: from files under the root (or uploaded in pieces) to an assessment with chips, a queue and
# labels, as curl sees it. Wanted numbers come from the fixture's formula; hostile names and bodies stand between.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for tool in curl jq ogr2ogr file split; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done
. "$here/server.sh" "$1"
make_data_root
printf '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand"><SourceFilename>/etc/hostname</SourceFilename></VRTRasterBand></VRTDataset>' >"$root/scenes/x.tif"
ln -s /etc/passwd "$root/scenes/link.tif"
start_server --data-root "$root"
J='Content-Type: application/json'
get() { curl -sS "$@"; }
send() { local m=$1; shift; curl -sS -X "$m" -H "$J" "$@"; }

echo "# files of the data root"
check "listing" "$(get "$base/files?path=scenes" | jq -r '[.entries[] | .name + "=" + .kind] | join(" ")')" \
    "houses.gpkg=vector link.tif=raster post.tif=raster pre.tif=raster x.tif=raster"
check "a raster" "$(get "$base/files/info?ref=scenes/pre.tif" | jq -c '[.crs,.width,.bands,.gsd_m,.bit_depth,.problem]')" '["EPSG:32633",600,3,0.5,8,null]'
check "a vector" "$(get "$base/files/info?ref=scenes/houses.gpkg" | jq -c '[.layers[0].name,.layers[0].n,.layers[0].suggested_id_field]')" '["houses",1225,"bldg_id"]'
get "$base/files/thumbnail.png?ref=scenes/post.tif&px=64" >"$work/t.png"
check "a thumbnail" "$(file -b "$work/t.png" | grep -oE 'PNG image data, [0-9]+ x')" "PNG image data, 64 x"
check "a VRT named x.tif reads nothing" "$(get "$base/files/info?ref=scenes/x.tif" | jq -r '(.problem != null), (.width == null)' | tr '\n' ' ')" "true true "
for ref in /etc/passwd ../data/scenes/pre.tif scenes/../../fix/pre.tif scenes/link.tif /vsicurl/http://x/y.tif 'http://x/y.tif' '<VRTDataset/>' .uploads/x scenes; do
    check "no file '$ref'" "$(code -G --data-urlencode "ref=$ref" "$base/files/info")" 404
done
check "no folder above" "$(code "$base/files?path=..")" 404

echo "# uploads in pieces"
size=$(stat -c %s "$work/fix/post.tif")
id=$(send POST -d "{\"name\":\"../../etc/post.tif\",\"bytes\":$size}" "$base/uploads" | jq -r .id)
check "the name is ours" "$(echo "$id" | grep -cE '^u-[0-9a-f]{32}$')" 1
split -b $(((size + 2) / 3)) "$work/fix/post.tif" "$work/piece."
at=0
piece() { curl -sS -o "$work/r" -D "$work/h" -w '%{http_code}' -X PATCH -H 'Content-Type: application/octet-stream' -H "Content-Range: bytes $1" --data-binary "@$2" "$base/uploads/$id"; }
n=0
for p in "$work"/piece.*; do
    k=$(stat -c %s "$p")
    [ $n -eq 1 ] && check "a wrong offset" "$(piece "0-$((k - 1))/$size" "$p") $(tr -d '\r' <"$work/h" | sed -n 's/^Upload-Offset: //p')" "409 $at"
    check "piece $n" "$(piece "$at-$((at + k - 1))/$size" "$p")" 204
    at=$((at + k)) n=$((n + 1))
done
check "complete" "$(get "$base/uploads/$id" | jq -c '[.complete,.offset,.ref]')" "[true,$size,\"$id\"]"
check "the bytes" "$(cmp "$root/.uploads/$id.tif" "$work/fix/post.tif" && echo same)" same
good=$id
id=$(send POST -d '{"name":"x.tif","bytes":'"$(stat -c %s "$root/scenes/x.tif")"'}' "$base/uploads" | jq -r .id)
check "a VRT is refused by its bytes" "$(piece "0-$(($(stat -c %s "$root/scenes/x.tif") - 1))/$(stat -c %s "$root/scenes/x.tif")" "$root/scenes/x.tif")" 415
check "and gone" "$(code "$base/uploads/$id")" 404
check "too large" "$(code -H "$J" -d '{"name":"a","bytes":1e15}' "$base/uploads")" 413

echo "# an assessment"
new() { send POST -o "$work/r" -w '%{http_code}' -d "$1" "$base/assessments"; }
check "a file that is not there" "$(new '{"title":"T","pre":["nope.tif"],"post":["scenes/post.tif"],"footprints":"scenes/houses.gpkg"}') $(jq -r '.errors[0].pointer' "$work/r")" "422 /pre/0" 2>/dev/null
check "made" "$(new "{\"id\":\"demo\",\"title\":\"Demo\",\"event\":{\"type\":\"quake\",\"date\":\"2024-05-01\"},\"pre\":[\"scenes/pre.tif\"],\"post\":[\"$good\"],\"footprints\":\"scenes/houses.gpkg\",\"size_m\":16,\"gsd_m\":0.5}")" 201
job=$(jq -r .job.jobID "$work/r")
check "twice" "$(new '{"id":"demo","title":"Demo","pre":["scenes/pre.tif"],"post":["scenes/post.tif"],"footprints":"scenes/houses.gpkg"}')" 409
timeout 120 curl -sSN "$base/jobs/$job/events" >"$work/events"
check "its events end with success" "$(grep '^data: ' "$work/events" | tail -1 | cut -c7- | jq -r .status)" successful
check "results" "$(code "$base/jobs/$job/results")" 200
for _ in $(seq 100); do [ "$(get "$base/assessments/demo" | jq -r .state)" = ready ] && break; sleep 0.1; done
A=$base/assessments/demo
get "$A" >"$work/a"
check "ready" "$(jq -c '[.state,.buildings,.title,.event.type,.cut,.post[0]]' "$work/a")" "[\"ready\",1225,\"Demo\",\"quake\",2,\"$good\"]"
check "its footprints are a collection" "$(get "$base/collections/demo.buildings/items?limit=1" | jq .numberMatched)" 1225
check "checks" "$(get "$A/checks" | jq -c '[.footprints.n, (.footprints.kept > 1000), ([.verdicts[].check] | sort | join(" "))]')" '[1225,true,"alignment blank coverage dates gsd overlap"]'

echo "# the queue and its pictures"
get "$A/queue?n=10&user=ana" >"$work/q"
check "one in five is blind" "$(jq -c '[(.items | length), ([.items[] | select(.purpose=="validate")] | length), .strategy]' "$work/q")" '[10,2,"spread"]'
check "nobody twice" "$(jq '[.items[].bldg_id] | unique | length' "$work/q")" 10
check "outlines are five metres wide" "$(jq -c '[.items[].outline[0] | (map(.[0]) | max - min) | . > 4.8 and . < 5.3] | all' "$work/q")" true
check "somebody else gets others" "$(get "$A/queue?n=10&user=ben" | jq --slurpfile a "$work/q" '[.items[].bldg_id] - ($a[0].items | map(.bldg_id)) | length')" 10
check "the blind draw goes on from 1" "$(get "$A/queue?n=3&mode=validate&user=ana" | jq -c '[.items[].draw] | .[0]')" 1
b=$(jq -r '[.items[] | select(.purpose=="train")][0].bldg_id' "$work/q")
v=$(jq -r '[.items[] | select(.purpose=="validate")][0].bldg_id' "$work/q")
for date in pre post; do
    get "$A/chips/$b/$date.png?px=200" >"$work/c.png"
    check "chip $date" "$(file -b "$work/c.png" | grep -oE '[0-9]+ x [0-9]+')" "200 x 200"
done
check "no such chip" "$(code "$A/chips/nobody/pre.png")" 404
check "one building" "$(get "$A/buildings/$b" | jq -r .bldg_id)" "$b"

echo "# labels"
put() { curl -sS -o "$work/r" -D "$work/h" -w '%{http_code}' -X PUT -H "$J" "${@:2}" "$A/labels/$1"; }
etag() { tr -d '\r' <"$work/h" | sed -n 's/^ETag: //p'; }
check "first" "$(put "$b" -H 'If-None-Match: *' -d '{"dmg_class":"major","by":"ana"}')" 201
one=$(etag)
check "the same again" "$(put "$b" -H 'If-None-Match: *' -d '{"dmg_class":"major","by":"ana"}') $(etag)" "200 $one"
check "without having read it" "$(put "$b" -d '{"dmg_class":"none","by":"ben"}') $(jq -r .current.dmg_class "$work/r")" "409 major"
check "changed" "$(put "$b" -H "If-Match: $one" -d '{"reason":"cloud","by":"ana"}') $(jq -c '[.dmg_class,.dmg_level,.reason]' "$work/r")" '200 ["unknown",-1,"cloud"]'
check "on an old reading" "$(put "$b" -H "If-Match: $one" -d '{"dmg_class":"none","by":"ben"}') $(jq -r .current.reason "$work/r")" "412 cloud"
two=$(get "$A/labels/$b" | jq -r .etag)
for i in $(seq 12); do
    curl -sS -o /dev/null -w '%{http_code}\n' -X PUT -H "$J" -H "If-Match: $two" -d "{\"dmg_class\":\"minor\",\"by\":\"p$i\"}" "$A/labels/$b" &
done >"$work/race"
wait $(jobs -p | grep -v "^$server$")
check "of twelve at once one wins" "$(sort "$work/race" | uniq -c | awk '{print $2 "x" $1}' | tr '\n' ' ')" "200x1 412x11 "
check "blind stays blind" "$(put "$v" -d '{"dmg_class":"none","purpose":"train"}') $(jq -r .purpose "$work/r")" "201 validate"
check "a class that is none" "$(put "$b" -d '{"dmg_class":"bad"}') $(jq -r '.errors[0].pointer' "$work/r")" "422 /dmg_class"
check "a building that is none" "$(put nobody -d '{"dmg_class":"none"}')" 404
check "no JSON" "$(put "$b" -d '{"dmg_class":')" 400
check "taken back without reading" "$(code -X DELETE "$A/labels/$b")" 428
check "taken back" "$(code -X DELETE -H "If-Match: $(get "$A/labels/$b" | jq -r .etag)" "$A/labels/$b") $(code "$A/labels/$b")" "204 404"
check "history keeps it all" "$(get "$A/labels/history?bldg_id=$b" | jq -c '[.entries[] | .action + ":" + .dmg_class]')" '["set:major","set:unknown","set:minor","clear:unknown"]'
printf 'bldg_id,grade,by\nb1,minor,ana\n"b2",3,ana\nb3,"un""known",ana\nnobody,none,ana\nb4,unknown,ana\n' >"$work/l.csv"
check "a table" "$(curl -sS -H 'Content-Type: text/csv' --data-binary "@$work/l.csv" "$A/labels" | jq -c '[.created,.n_refused,[.refused[].row]]')" '[3,2,[3,4]]'
check "again" "$(curl -sS -H 'Content-Type: text/csv' --data-binary "@$work/l.csv" "$A/labels" | jq -c '[.created,.unchanged]')" '[0,3]'
check "by another" "$(sed 's/ana/ben/; s/minor/none/' "$work/l.csv" | curl -sS -H 'Content-Type: text/csv' --data-binary @- "$A/labels" | jq -c '[.created,.changed,.n_refused]')" '[0,0,5]'
check "metrics" "$(get "$A/metrics" | jq -c '[.labels.train.minor,.labels.train.destroyed,.labels.train.unknown,.n_validate]')" '[1,1,1,1]'
check "no honest total yet" "$(code "$A/estimate") $(code "$A/report.html")" "409 409"

echo "# processes and the end"
check "processes" "$(get "$base/processes" | jq '[.processes[].id] | index("train") != null and index("predict") != null')" true
check "no such process" "$(code -H "$J" -d '{"inputs":{"assessment":"demo"}}' "$base/processes/nope/execution")" 404
check "no model yet" "$(code -H "$J" -d '{"inputs":{"assessment":"demo"}}' "$base/processes/predict/execution")" 400
check "removed blindly" "$(code -X DELETE "$A")" 428
check "renamed" "$(send PATCH -H "If-Match: $(get "$A" | jq -r .etag)" -d '{"title":"Other"}' "$A" | jq -r .title)" Other
check "removed on an old reading" "$(code -X DELETE -H "If-Match: $(jq -r .etag "$work/a")" "$A")" 412
check "removed" "$(code -X DELETE -H "If-Match: $(get "$A" | jq -r .etag)" "$A") $(code "$A") $(ls "$root/.trash" | wc -l)" "204 404 1"
check "still alive" "$(code "$base/readyz")" 200

[ $failed -eq 0 ] || { echo "$failed failed"; cat "$work/stderr"; exit 1; }
