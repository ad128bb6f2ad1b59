#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `aftermap lab lag`: a generator of plain images, stopped and gone on with, its measures, versions of a georeferenced
# image and of an event's chips with their marks (read by GDAL's programs); tile, assess, train and evaluate refuse what
# it made; what is refused and how it is said.
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"
for tool in jq gdalinfo gdal_translate; do
    command -v $tool >/dev/null || { echo "no $tool"; exit 77; }
done

make_greys 16
lag() { "$aftermap" lab lag "$@" --progress none; }
quick=(--width 8 --blocks 1 --noise 2 --batch 4)

lag train $data "${quick[@]}" --updates 60 -o lag.safetensors --json -q >out.json || fail 'train failed'
jq -e '.scale == 4 and .size_px == 16 and .images == 96 and .updates == 60 and .bands == 1' out.json >/dev/null ||
    fail "train reports $(cat out.json)"

survives_a_stop lag.safetensors "$aftermap" lab lag train $data "${quick[@]}" --updates 60

# measures on what was held out, and the sheet
lag measure $data --model lag.safetensors -n 4 -o claims --json -q >claims.json || fail 'measure failed'
jq -e '.synthetic and .images == 24 and .versions == 4 and .sd > 0 and .rho > 0 and .off_centre > 0' claims.json >/dev/null ||
    fail "measure reports $(cat claims.json)"
gdalinfo claims/synthetic-sheet.png 2>/dev/null | says 'SYNTHETIC (aftermap lag' || fail 'the sheet is not marked'

# versions of an image on the ground: 10 x 6 pixels of 2 m -> 40 x 24 of half a metre, at the same place
{
    printf 'ncols 10\nnrows 6\nxllcorner 500000\nyllcorner 4000000\ncellsize 2\nNODATA_value 255\n'
    echo '255 255 80 100 120 140 160 180 200 220'
    for _ in 1 2 3 4 5; do echo '40 60 80 100 120 140 160 180 200 220'; done
} >coarse.asc
gdal_translate -q -ot Byte -a_srs EPSG:32633 -a_nodata 255 coarse.asc coarse.tif || fail 'no coarse image'
lag enhance coarse.tif --model lag.safetensors -n 3 -o made --seed 7 --json -q >made.json || fail 'enhance failed'
jq -e '.synthetic and .scale == 4 and .versions == 3 and (.images | length) == 1 and .images[0].sd > 0' made.json >/dev/null ||
    fail "enhance reports $(cat made.json)"
for name in centre 1 2 3 sd; do
    [ -f made/synthetic-coarse-$name.tif ] || fail "no $name"
done
for file in made/*; do
    case $file in made/synthetic-*) ;; *) fail "$file does not say that it is synthetic" ;; esac
done
gdalinfo -stats made/synthetic-coarse-1.tif >info.txt 2>&1
grep -q 'TIFFTAG_IMAGEDESCRIPTION=SYNTHETIC (aftermap lag [0-9a-f]* seed 7)' info.txt || fail "no mark: $(cat info.txt)"
grep -q 'SYNTHETIC=YES' info.txt || fail 'no SYNTHETIC=YES'
grep -q 'Description = synthetic' info.txt || fail 'no band that says synthetic'
grep -q 'Size is 40, 24' info.txt || fail 'the finer grid has another size'
grep -q 'Origin = (500000.0*,4000012.0*)' info.txt || fail "another place: $(grep Origin info.txt)"
grep -q 'Pixel Size = (0.50*,-0.50*)' info.txt || fail 'another pixel size'
grep -q '32633' info.txt || fail 'no coordinate system'
grep -qi DATETIME info.txt && fail 'a made-up image has a date'
corner=$(gdallocationinfo -valonly -b 1 made/synthetic-coarse-1.tif 3 2)
[ "$corner" = 255 ] || fail "blank ground was filled with $corner"
rm -f made/*.aux.xml
cmp -s made/synthetic-coarse-1.tif made/synthetic-coarse-2.tif && fail 'versions are alike'
lag enhance coarse.tif --model lag.safetensors -n 2 -o fewer --seed 7 -q >/dev/null
cmp -s made/synthetic-coarse-2.tif fewer/synthetic-coarse-2.tif || fail 'asking for fewer changes what is there'

expect 0 'from 4 pixels; .* MB at the last' lag train $data --dry-run -o x.safetensors

# refusals
expect 2 'exists already' lag enhance coarse.tif --model lag.safetensors -n 2 -o made
expect 2 'exists already' lag train $data -o lag.safetensors
expect 2 'no multiple of the scale' lag train $data --scale 32 -o x.safetensors
expect 2 'no option of .lab lag enhance' lag enhance coarse.tif --model lag.safetensors --width 8 -o x
expect 2 'say train, measure or enhance' lag sharpen
expect 2 'name the model' lag enhance coarse.tif -o x
expect 6 'other settings' lag train $data "${quick[@]}" --updates 61 --resume -o lag.safetensors
expect 6 'images.idx is no model' lag enhance coarse.tif --model images.idx -o x
gdal_translate -q -srcwin 0 0 3 6 coarse.tif narrow.tif
expect 3 'are too few' lag enhance narrow.tif --model lag.safetensors -o x
expect 3 'no such file' lag enhance nothing.tif --model lag.safetensors -o x
rmdir x 2>/dev/null || true
[ ! -e x ] && [ ! -e x.safetensors ] || fail 'a refusal left something behind'

# an event: both dates are images; its chips get versions in place; what is made is no input of the assessment
make_scene scene 3 && [ -f scene/pre.tif ] || { echo 'no scene maker; the rest is left out'; finish; exit; }
cut=(--post scene/post.tif --footprints scene/footprints.gpkg --label-field damage --progress none)
"$aftermap" tile --pre scene/pre.tif "${cut[@]}" -o event -q >/dev/null || fail 'tile'
lag train event --size 16 "${quick[@]}" --updates 4 -o event.safetensors --json -q >out.json || fail 'train on an event'
jq -e '.bands == 3' out.json >/dev/null || fail "$(cat out.json)"
id=$(ogrinfo -q -sql 'SELECT bldg_id FROM buildings WHERE page >= 0 LIMIT 1' event/chips.gpkg | sed -n 's/.*bldg_id (String) = //p')
lag enhance event --building "$id" --model event.safetensors -n 2 -o chips --json -q >chips.json || fail 'enhance an event'
jq -e '(.images | length) == 2' chips.json >/dev/null || fail "$(cat chips.json)"
first=chips/synthetic-$(jq -r '.images[0].name' chips.json)-1.tif
gdalinfo "$first" | says 'Pixel Size = (0.1250*,-0.1250*)' || fail 'chips on another grid'
gdal_translate -q -srcwin 0 0 200 200 scene/pre.tif part.tif
lag enhance part.tif --model event.safetensors -n 2 -o finer >/dev/null 2>warned.txt || fail 'enhance an image by an event'"'"'s model'
grep -q 'wrong size' warned.txt || fail 'no word about pixels of another size than learnt'
made=finer/synthetic-part-1.tif
gdalinfo -json $made | jq -e '.bands | length == 4' >/dev/null || fail 'bands'
expect 3 'marked SYNTHETIC' "$aftermap" tile --pre $made "${cut[@]}" -o dream
gdal_translate -q -b 1 -b 2 -b 3 $made renamed.tif
expect 3 'marked SYNTHETIC' "$aftermap" tile --pre renamed.tif "${cut[@]}" -o dream
"$aftermap" tile --pre $made "${cut[@]}" --allow-synthetic -o dream -q >/dev/null || fail 'tile --allow-synthetic'
jq -e '.synthetic == true' dream/event.json >/dev/null || fail 'the event does not say that it is synthetic'
"$aftermap" train event --method supervised --preset lite --steps 2 --batch 4 -o model.safetensors -q --progress none >/dev/null ||
    fail 'no damage model'
expect 3 'a model made up' "$aftermap" assess dream --model model.safetensors -o map --progress none
"$aftermap" assess dream --model model.safetensors --allow-synthetic --tta 1 -o map -q --progress none >/dev/null || fail 'assess --allow-synthetic'
jq -e '.synthetic and .settings.synthetic_input and (.warnings[0] | test("made up"))' map/run.json >/dev/null ||
    fail 'run.json keeps silent about it'
expect 3 'nothing can be measured' "$aftermap" evaluate map --truth dream --progress none
"$aftermap" assess event --model model.safetensors --tta 1 -o honest -q --progress none >/dev/null || fail 'assess'
jq -e 'has("synthetic") or has("warnings") | not' honest/run.json >/dev/null || fail 'an observed event is marked'
finish
