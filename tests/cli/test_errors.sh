#!/usr/bin/env bash
# Bad input: one clear sentence that names the file and the mend, the documented exit status, and nothing lost that was
# there before.
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

make_scene scene
tile() { "$aftermap" tile --label-field damage "$@"; }
good=(--pre scene/pre.tif --post scene/post.tif --footprints scene/footprints.gpkg)
tile "${good[@]}" -o event >/dev/null 2>&1 || fail 'the good event cannot be made'
sum() { find "$@" -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; }
before=$(sum event)
untouched() { [ "$(sum event)" = "$before" ] || fail "$1 changed the earlier event"; }
no_trace() { [ -z "$(find . -maxdepth 1 -name '*.tmp-*')" ] || fail "$1 left temporary files: $(ls -d ./*.tmp-*)"; }
again() { # bad input over an existing event: refused, and the old event is intact
    expect "$@"
    untouched "$2"
    no_trace "$2"
}
over=(-o event --overwrite)

expect 2 'exists' tile "${good[@]}" -o event
head -c 3000 scene/post.tif >truncated.tif
again 3 'truncated.tif' tile --pre scene/pre.tif --post truncated.tif --footprints scene/footprints.gpkg "${over[@]}"
size=$(stat -c %s scene/post.tif)
head -c $((size / 2)) scene/post.tif >half.tif
again 3 'half.tif' tile --pre scene/pre.tif --post half.tif --footprints scene/footprints.gpkg "${over[@]}"
echo 'not an image at all' >junk.tif
again 3 'junk.tif' tile --pre junk.tif --post scene/post.tif --footprints scene/footprints.gpkg "${over[@]}"
again 3 'missing.tif' tile --pre missing.tif --post scene/post.tif --footprints scene/footprints.gpkg "${over[@]}"
gdal_translate -q -a_ullr 0 1 1 0 -a_srs EPSG:4326 scene/post.tif far.tif
again 3 'no ground in common' tile --pre scene/pre.tif --post far.tif --footprints scene/footprints.gpkg "${over[@]}"
gdal_translate -q --config GDAL_PAM_ENABLED NO -co PROFILE=BASELINE scene/post.tif nocrs.tif
again 3 'nocrs.tif.*(coordinate|georef|geotransform|CRS)' tile --pre scene/pre.tif --post nocrs.tif --footprints scene/footprints.gpkg "${over[@]}"
gdal_translate -q -b 1 scene/post.tif oneband.tif
again 3 'oneband.tif.*band' tile --pre scene/pre.tif --post oneband.tif --footprints scene/footprints.gpkg "${over[@]}"
ogr2ogr -f GPKG empty.gpkg scene/footprints.gpkg -where '1=0'
again 3 'empty.gpkg' tile --pre scene/pre.tif --post scene/post.tif --footprints empty.gpkg "${over[@]}"
ogr2ogr -f GeoJSON -dialect sqlite -sql 'select ST_Translate(ST_Transform(geom, 4326), 5, 0, 0) as geometry, bldg_id, damage from footprints' \
    outside.geojson scene/footprints.gpkg 2>/dev/null || cp empty.gpkg outside.geojson
again 3 'outside.geojson' tile --pre scene/pre.tif --post scene/post.tif --footprints outside.geojson "${over[@]}"
ogr2ogr -f GeoJSON -t_srs EPSG:4326 strange.geojson scene/footprints.gpkg -dialect sqlite \
    -sql "select geom, bldg_id, case when damage = 'destroyed' then 'kaputt' else damage end as damage from footprints"
again 3 'kaputt.*|label-map' tile --pre scene/pre.tif --post scene/post.tif --footprints strange.geojson "${over[@]}"
again 3 'no_such_field' tile "${good[@]}" --label-field no_such_field "${over[@]}"

# training
expect 3 'nothing|no_event|event' "$aftermap" train nowhere --steps 2 -o m.safetensors
ogr2ogr -f GPKG -t_srs EPSG:4326 oneclass.gpkg scene/footprints.gpkg -dialect sqlite -sql "select geom, bldg_id, 'none' as damage from footprints"
tile --pre scene/pre.tif --post scene/post.tif --footprints oneclass.gpkg -o oneclass >/dev/null 2>&1 || fail 'an event of one class cannot be made'
expect 3 'class' "$aftermap" train oneclass --steps 2 -o m.safetensors
[ ! -e m.safetensors ] || fail 'a refused training left a model'
expect 3 'label' "$aftermap" train event --labels-per-class 5000 --steps 2 -o m.safetensors
"$aftermap" train event --method supervised --batch 4 --steps 2 --preset lite3 -o m.safetensors -q >/dev/null || fail 'training'
expect 2 'exists' "$aftermap" train event --method supervised --steps 2 -o m.safetensors

# models
"$aftermap" assess event --model m.safetensors -o map -q >/dev/null || fail 'assess'
map_before=$(sum map)
n=$(stat -c %s m.safetensors)
head -c $((n - 100)) m.safetensors >short.safetensors
cp m.safetensors tampered.safetensors
printf '\x7f' | dd of=tampered.safetensors bs=1 seek=$((n - 1000)) conv=notrunc status=none
head -c 4 m.safetensors >stub.safetensors
for model in short tampered stub; do
    expect 6 "$model.safetensors" "$aftermap" assess event --model $model.safetensors -o map --overwrite
    expect 6 "$model.safetensors" "$aftermap" info $model.safetensors
done
expect 3 'none.safetensors' "$aftermap" assess event --model none.safetensors -o map --overwrite
expect 2 'exists' "$aftermap" assess event --model m.safetensors -o map
[ "$(sum map)" = "$map_before" ] || fail 'a refused assess changed the earlier map'
cp -r event torn
truncate -s 1000 torn/chips.tif
expect 3 'chips.tif' "$aftermap" assess torn --model m.safetensors -o map --overwrite
rm torn/event.json
expect 3 'torn' "$aftermap" assess torn --model m.safetensors -o map --overwrite
[ "$(sum map)" = "$map_before" ] || fail 'a torn event changed the earlier map'
expect 3 'oneclass|class|label' "$aftermap" evaluate map --truth oneclass

# a folder that cannot be written: root may write anywhere, so a file stands where a folder should be
echo >file
expect 1 'file' tile "${good[@]}" -o file/event
expect 1 'file' "$aftermap" train event --method supervised --batch 4 --preset lite3 --steps 1 -o file/m.safetensors
expect 1 'file' "$aftermap" assess event --model m.safetensors -o file/map

# a full disk, where a small file system may be mounted
mkdir -p small
if mount -t tmpfs -o size=200k tmpfs small 2>/dev/null; then
    trap 'umount small 2>/dev/null || true; rm -rf "$scratch"' EXIT
    expect 5 'space' tile "${good[@]}" -o small/event
    expect 5 'space' "$aftermap" train event --method supervised --batch 4 --preset lite3 --steps 1 -o small/m.safetensors
    expect 5 'space' "$aftermap" assess event --model m.safetensors -o small/map
    [ -z "$(ls -A small)" ] || fail "a full disk holds left-overs: $(ls small)"
    umount small
fi
untouched 'one of the failures'
no_trace 'one of the failures'
finish
