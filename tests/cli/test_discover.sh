#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `aftermap discover` on an event with a flood that no grade speaks of, painted over one side of the town: the flooded
# buildings come out as a learnable group, with a contact sheet, tables and a layer that GDAL's own tools read, and no
# grade anywhere changes. Then a set of digits-like images with a class hidden, and what is refused with its reason.
source "$(dirname "$0")/lib.sh"
[ -x "$build/aftermap-scene" ] || { echo 'no aftermap-scene: nothing to map'; exit 77; }
command -v jq >/dev/null && command -v ogr2ogr >/dev/null || { echo 'needs jq and gdal-bin'; exit 77; }
command -v gdal_rasterize >/dev/null || { echo 'needs gdal-bin'; exit 77; }

sql() { ogr2ogr -f CSV /vsistdout/ "$1" -dialect SQLite -sql "$2" 2>/dev/null | tail -n +2 | tr -d '"\r'; }

"$build/aftermap-scene" --seed 9 --size-px 900 --buildings 170 -o scene >/dev/null 2>&1 || { echo 'no scene'; exit 77; }

# Muddy water east of a line, over everything.
read -r west east south north < <(sql scene/footprints.gpkg 'SELECT MbrMinX(e), MbrMaxX(e), MbrMinY(e), MbrMaxY(e) FROM
    (SELECT ST_Transform(Extent(geom), 4326) AS e FROM footprints)' | tr ',' ' ')
shore=$(awk -v w="$west" -v e="$east" 'BEGIN { printf "%.7f", w + 0.72 * (e - w) }')
cat >flood.geojson <<END
{"type":"FeatureCollection","features":[{"type":"Feature","properties":{},"geometry":{"type":"Polygon","coordinates":
[[[$shore,$south],[$(awk -v e="$east" 'BEGIN { print e + 0.001 }'),$south],[$(awk -v e="$east" 'BEGIN { print e + 0.001 }'),$north],[$shore,$north],[$shore,$south]]]}}]}
END
gdal_rasterize -q -b 1 -b 2 -b 3 -burn 96 -burn 84 -burn 60 flood.geojson scene/post.tif
"$aftermap" tile --pre scene/pre.tif --post scene/post.tif --footprints scene/footprints.gpkg --label-field damage \
    --size-m 16 -o event -q >/dev/null

# Two of three dry buildings are graded, none of the flooded ones.
{
    echo bldg_id,grade
    sql scene/footprints.gpkg 'SELECT bldg_id, damage FROM footprints' | sort -t, -k1,1 >grades
    sql event/chips.gpkg "SELECT bldg_id FROM buildings WHERE page >= 0 AND lon < $shore AND fid % 3 <> 0" | sort >dry
    join -t, dry grades | grep -v unknown
} >known.csv
train() { "$aftermap" train event --method supervised --preset lite3 --steps 25 --batch 16 --cut 2 --labels known.csv:grade -q "$@" >/dev/null 2>&1; }
train --seed 1 -o a.safetensors
sha256sum event/* >before

discover() { "$aftermap" discover event --model a.safetensors --labels known.csv:grade --min-items 12 --groups 2 "$@"; }
discover -o out --json >out.json 2>err.txt || fail "discover: $(tail -n 2 err.txt)"
cmp -s <(jq . out.json) <(jq . out/discover.json) || fail 'the printed result is not the one in the folder'
sha256sum --quiet -c before || fail 'the event was changed'
said() { # FILTER WHAT: a jq condition on out.json
    [ "$(jq "$1" out.json)" = true ] || fail "$2: not $1: $(jq -c '.groups[] | [.group_no, .learnable, .n, .f1, .f1_needed]' out.json | tr '\n' ' ')"
}
said '[.groups[] | select(.learnable)] | length >= 1' 'a flood'
said '.groups | all(.group_name == "unreviewed group \(.group_no)")' 'names'
said 'has("dra") | not' 'an accuracy is shown where none is known'
said '[.groups[].exemplars | length] | all(. <= 24)' 'exemplars'

# The first learnable group is the flood: most of the flooded buildings are in learnable groups, few dry ones are.
ogr2ogr -f CSV candidates.csv out/candidates.gpkg candidates 2>/dev/null || fail 'candidates.gpkg cannot be read'
sql event/chips.gpkg "SELECT bldg_id FROM buildings WHERE page >= 0 AND lon > $shore" | sort >wet
sql out/candidates.gpkg 'SELECT bldg_id FROM candidates WHERE learnable = 1' | sort >found
both=$(comm -12 wet found | wc -l)
[ "$both" -ge $(($(wc -l <wet) * 6 / 10)) ] || fail "of $(wc -l <wet) flooded buildings $both are in learnable groups"
[ "$both" -ge $(($(wc -l <found) * 7 / 10)) ] || fail "of $(wc -l <found) buildings in learnable groups only $both are flooded"
said '[.groups[] | select(.learnable and .cramers_v["part of the scene"] > 0.5) | .flag != ""] | all' 'a flood on one side is flagged'

# The layer: proposals only.
ogrinfo -so out/candidates.gpkg candidates >layer.txt 2>&1 || fail 'ogrinfo'
grep -q 'WGS 84' layer.txt && grep -q 'unreviewed proposals, not grades' layer.txt || fail "the layer does not say what it is: $(cat layer.txt)"
grep -qE '^(dmg_|label|p_)' layer.txt && fail 'the layer has columns of grades'
[ "$(sql out/candidates.gpkg 'SELECT count(*) FROM candidates WHERE name IS NOT NULL')" = 0 ] || fail 'a name is given already'
sql out/candidates.gpkg 'SELECT bldg_id FROM candidates' | sort >all
[ -z "$(tail -n +2 known.csv | cut -d, -f1 | sort | comm -12 - all)" ] || fail 'a graded building is a candidate'
[ "$(sql out/candidates.gpkg 'SELECT count(*) FROM candidates WHERE group_no = 1')" = "$(jq '.groups[0].n' out.json)" ] || fail 'layer and JSON differ'
[ "$(tail -n +2 out/groups.csv | wc -l)" = "$(jq '.groups | length' out.json)" ] || fail 'CSV and JSON differ'
[ "$(sql out/candidates.gpkg 'SELECT bldg_id FROM candidates WHERE group_no = 1 AND rank = 1')" = "$(jq -r '.groups[0].exemplars[0]' out.json)" ] ||
    fail 'the first exemplar is not the one of rank 1'

# The sheet: four columns of pairs, 24 of them.
gdalinfo -json out/group-01.png >sheet.json || fail 'gdalinfo'
[ "$(jq -r '.driverShortName, (.bands | length)' sheet.json | tr '\n' ' ')" = 'PNG 3 ' ] || fail "the sheet is $(jq -c '[.driverShortName, .size]' sheet.json)"
shown=$(jq '.groups[0].exemplars | length' out.json)
[ "$(jq '.size[1]' sheet.json)" -gt $(((shown + 3) / 4 * 64)) ] || fail "a sheet of $shown is $(jq -c .size sheet.json)"
[ "$(jq -r '.metadata[""].Title' sheet.json)" = 'unreviewed group 1' ] || fail 'the sheet has no title'
[ "$(ls out/*.aux.xml 2>/dev/null | wc -l)" = 0 ] || fail 'side files'

# Again: the same, on any number of threads; a second model as the other view; nothing is overwritten unasked.
discover -o again --threads 1 -q >/dev/null 2>&1 && cmp -s again/groups.csv out/groups.csv || fail 'one thread gives other groups'
train --seed 2 -o b.safetensors
discover -o two --second-model b.safetensors -q >/dev/null 2>err.txt || fail "a second model: $(cat err.txt)"
[ "$(jq -r .second_view two/discover.json)" != "$(jq -r .second_view out.json)" ] || fail 'the second view is not told'
discover -o ground --reject-by ground --min-items 4 -q >/dev/null 2>err.txt || fail "by the ground: $(cat err.txt)"
[ "$(jq -r '.rejected_by, .second_view' ground/discover.json | tr '\n' ' ')" = 'ground model ' ] &&
    [ "$(jq .n_rejected ground/discover.json)" != "$(jq .n_rejected out.json)" ] || fail 'the ground rejects what the model does'
expect 2 'excludes --second-model' discover -o no --reject-by ground --second-model b.safetensors
expect 2 'holds a discovery already' discover -o out
touch out/group-77.png
discover -o out --overwrite --sheet 4 -q >/dev/null 2>&1 || fail 'overwrite'
[ ! -e out/group-77.png ] && [ "$(jq '.groups[0].exemplars | length' out/discover.json)" -le 4 ] || fail 'an old sheet stayed'
discover -o dry.run --dry-run -q >/dev/null 2>&1 && [ ! -e dry.run ] || fail 'dry run'

# What cannot be done.
expect 3 'rejected, fewer than' "$aftermap" discover event --model a.safetensors --labels known.csv:grade --min-items 5000 -o no
[ ! -e no ] || fail 'a refused run left a folder'
{ head -n 1 known.csv; grep ',none' known.csv; } >one.csv
expect 3 "no graded building of class 'damaged'" "$aftermap" discover event --model a.safetensors --labels one.csv:grade -o no
{ head -n 1 known.csv; grep ',none' known.csv | head -n 3; grep -E ',(major|destroyed)' known.csv | head -n 3; } >six.csv
expect 3 '6 graded buildings; 40 are needed' "$aftermap" discover event --model a.safetensors --labels six.csv:grade -o no
"$aftermap" tile --pre scene/pre.tif --post scene/post.tif --footprints scene/footprints.gpkg --label-field damage --size-m 16 --bands 1 \
    -o grey -q >/dev/null 2>&1 &&
    expect 6 'was trained on 3 bands' "$aftermap" discover grey --model a.safetensors --labels known.csv:grade -o no
expect 2 'are one model' discover --second-model a.safetensors -o no
expect 2 'which classes to hide' "$aftermap" discover idx:a,b -o no
expect 2 'name the model' "$aftermap" discover event -o no
expect 2 'have no meaning beside it' "$aftermap" discover event --hold-out none --model a.safetensors -o no

# A benchmark: the event's grades themselves, one hidden. The figures must obey their definitions.
"$aftermap" discover event --hold-out destroyed --labels-per-class 12 --steps 6 --min-items 10 --groups 1 -o bench -q --json >b.json 2>err.txt || {
    grep -q 'rejected, fewer than\|needs 10 at least' err.txt || fail "benchmark: $(cat err.txt)"
}
expect 2 'are classes of' "$aftermap" discover event --hold-out flooded -o no
expect 2 'needs two at least' "$aftermap" discover event --hold-out none,minor,major -o no
finish
