#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `aftermap align` on a drawn town whose shifts are known: the scene maker's truth, read by ogr2ogr, is the judge. The
# error left must be well below what it was, columns must reach the map, and the arrows must open in GDAL's programs.
source "$(dirname "$0")/lib.sh"
[ -x "$build/aftermap-scene" ] || { echo 'no aftermap-scene: nothing to align'; exit 77; }
for tool in ogr2ogr ogrinfo jq; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done

"$build/aftermap-scene" --seed 12 --event wildfire --size-px 900 --buildings 140 -o scene >/dev/null 2>&1 ||
    { echo 'the scene maker does not run'; exit 77; }
tile() { "$aftermap" tile --pre scene/pre.tif --post scene/post.tif --footprints scene/footprints.gpkg --label-field damage "$@" -q; }
tile -o event >/dev/null
cp -r event plain
"$aftermap" align event --export shifts.gpkg --json -q >summary.json || fail 'align failed'

# lengths "before after" of every standing building, in metres
ogr2ogr -f CSV truth.csv scene/footprints.gpkg -select bldg_id,true_dx,true_dy,true_level,note >/dev/null 2>&1
ogr2ogr -f CSV found.csv event/chips.gpkg buildings -where 'page >= 0' -select bldg_id,shift_x,shift_y,shift_q,shift_by >/dev/null 2>&1
join -t, <(tail -n +2 truth.csv | sort) <(tail -n +2 found.csv | sort) | tr -d '"' |
    awk -F, '$4 < 3 && $5 == "standing" { print sqrt($2*$2 + $3*$3), sqrt(($6-$2)^2 + ($7-$3)^2) }' >lengths
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
before=$(cut -d' ' -f1 lengths | median)
after=$(cut -d' ' -f2 lengths | median)
echo "standing buildings: $(wc -l <lengths), median error $before m before, $after m after"
awk "BEGIN { exit !($before > 1.2 && $after < 0.5 * $before && $after < 0.9) }" || fail "the shifts are not those of the scene: $before -> $after m"

jq -e '.aligned and .chips == .measured + .neighbours + .skipped + .hand and (.histogram.count | add) == .chips - .skipped
       and (.worst | length) == 20 and (.arrows | length) > 3 and (.verdict | IN("pass", "warn", "fail")) and .event == "event"' \
    summary.json >/dev/null || fail "the summary does not add up: $(head -c 300 summary.json)"
n=$(jq .chips summary.json)
ogrinfo -so shifts.gpkg shifts >out.txt 2>err.txt || fail 'the arrows cannot be opened'
[ ! -s err.txt ] || fail "the arrows warn: $(head -n 2 err.txt)"
grep -q "Feature Count: $n" out.txt || fail "not one arrow a chip: $(grep Count out.txt)"

# in one go; measured again; taken away
tile --align -o once >/dev/null
cmp -s once/event.json event/event.json || fail 'tile --align is not tile and then align'
expect 2 'aligned already.*--overwrite' "$aftermap" align event
expect 2 'exists already' "$aftermap" align plain --export shifts.gpkg
"$aftermap" align event --overwrite --threads 1 -q >/dev/null
cmp -s once/event.json event/event.json || fail 'measuring again gives another event'
"$aftermap" align once --reset -q >/dev/null
cmp -s once/chips.tif plain/chips.tif || fail '--reset does not give the old chips back'

# by hand
id=$(sed -n '2s/,.*//p' found.csv | tr -d '"')
printf 'bldg_id,shift_x,shift_y\n%s,0.75,-1.5\n' "$id" >hand.csv
"$aftermap" align event --hand hand.csv -q >/dev/null || fail 'shifts by hand'
ogrinfo -q event/chips.gpkg buildings -where "bldg_id = '$id'" 2>&1 | says -E 'shift_y .*= -1.5' || fail 'the shift by hand is not there'
printf 'bldg_id,shift_x,shift_y\nnobody,0,0\n' >bad.csv
expect 3 "no building 'nobody'" "$aftermap" align event --hand bad.csv
expect 3 'no such event' "$aftermap" align nowhere
expect 2 'search-m' "$aftermap" align event --search-m 0
expect 2 'exclude' "$aftermap" align event --reset --hand hand.csv

# columns reach the map with their stored values
"$aftermap" train event --method supervised --steps 2 --batch 8 --cut 2 -o m.safetensors -q >/dev/null
"$aftermap" assess event --model m.safetensors -o map --tta 1 -q >/dev/null || fail 'assess an aligned event'
for table in 'event/chips.gpkg buildings' 'map/damage.gpkg buildings' 'map/damage.geojson buildings' 'map/damage.csv damage'; do
    set -- $table
    ogr2ogr -f CSV /vsistdout/ "$1" "$2" -select bldg_id,shift_x,shift_y,shift_q 2>/dev/null | tr -d '"' |
        awk -F, 'NR > 1 { printf "%s,%.2f,%.2f,%.3f\n", $1, $2, $3, $4 }' | sort >"columns.$(basename "$1")"
done
for kind in damage.gpkg damage.geojson damage.csv; do
    cmp -s columns.chips.gpkg columns.$kind || fail "$kind has other shifts than the event"
done
finish
