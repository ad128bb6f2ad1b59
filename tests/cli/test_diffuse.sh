#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `aftermap lab diffuse`: a teacher of plain images, stopped and gone on with, its student, the images both make and
# how these are marked (read by GDAL's programs); the same on an event; what is refused and how it is said.
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"
for tool in jq gdalinfo; do
    command -v $tool >/dev/null || { echo "no $tool"; exit 77; }
done

# 60 images of 8 x 8: the first 30 dark (class 0), the others bright (class 1)
{
    printf '\0\0\x08\x03\0\0\0\x3c\0\0\0\x08\0\0\0\x08'
    for i in $(seq 0 59); do head -c 64 /dev/zero | tr '\0' "\\$(printf %o $((40 + 150 * (i / 30))))"; done
} >images.idx
{
    printf '\0\0\x08\x01\0\0\0\x3c'
    for i in $(seq 0 59); do [ "$i" -lt 30 ] && printf '\0' || printf '\x01'; done
} >labels.idx
data=idx:images.idx,labels.idx
diffuse() { "$aftermap" lab diffuse "$@" --progress none; }
quick=(--noise-steps 16 --width 8 --batch 8 --lr 0.004 --cap 100)

diffuse train $data "${quick[@]}" --updates 120 -o teacher.safetensors --json -q >out.json || fail 'train failed'
jq -e '.method == "teacher" and .classes == 2 and .size_px == 8 and .images == 48 and .updates == 120' out.json >/dev/null ||
    fail "train reports $(cat out.json)"
diffuse distill teacher.safetensors $data --plan 16,4,1 --batch 8 --updates 60 --cap 100 -o student.safetensors -q >/dev/null ||
    fail 'distill failed'
diffuse distill teacher.safetensors $data --method btd --batch 8 --updates 8 -o btd.safetensors -q >/dev/null ||
    fail 'distill by btd failed'

survives_a_stop teacher.safetensors "$aftermap" lab diffuse train $data "${quick[@]}" --updates 120

# samples: one call of the student, 16 of the teacher; bright is bright, dark is dark; every mark is there
diffuse sample student.safetensors --count 3 -o made --seed 7 --json -q >made.json || fail 'sample failed'
jq -e '.synthetic and .calls == 1 and .method == "tract" and (.files | length) == 6 and all(.files[]; .synthetic)' made.json \
    >/dev/null || fail "sample reports $(head -c 300 made.json)"
jq -e '.seed == "7" and (.files | length) == 6' made/synthetic-list.json >/dev/null || fail 'the list beside the images'
for file in made/*; do
    case $file in made/synthetic-*) ;; *) fail "$file does not say that it is synthetic" ;; esac
done
first=$(jq -r '.files[0].file' made.json)
last=$(jq -r '.files[5].file' made.json)
gdalinfo -stats "made/$last" >info.txt 2>&1
grep -q 'TIFFTAG_IMAGEDESCRIPTION=SYNTHETIC (aftermap diffusion [0-9a-f]* seed 7)' info.txt || fail "no mark: $(cat info.txt)"
grep -q 'SYNTHETIC=YES' info.txt || fail 'no SYNTHETIC=YES'
grep -q 'Description = synthetic' info.txt || fail 'no band that says synthetic'
grep -q 'Minimum=1.000, Maximum=1.000' info.txt || fail 'the synthetic band is not all ones'
grep -qiE 'coordinate system is|DATETIME' info.txt && fail 'a made-up image has a place or a date'
mean() { gdalinfo -stats "$1" 2>/dev/null | sed -n 's/.*STATISTICS_MEAN=//p' | head -n 1; }
echo "means asked dark and bright: $(mean "made/$first") $(mean "made/$last")"
awk "BEGIN { exit !($(mean "made/$first") + 60 < $(mean "made/$last")) }" || fail 'classes look alike'
gdalinfo made/synthetic-sheet.png 2>/dev/null | says 'SYNTHETIC' || fail 'the sheet is not marked'
rm -f made/*.aux.xml
# a sample depends on its own number alone, and images of before are not replaced unasked
diffuse sample student.safetensors --count 5 -o more --seed 7 -q >/dev/null
cmp -s "made/$last" "more/$last" || fail 'asking for more changes what is there'
expect 2 'exists already' diffuse sample student.safetensors -o made
diffuse sample teacher.safetensors --class 1 --count 2 --calls 16 -o taught -q >/dev/null || fail 'sampling a teacher'
[ "$(ls taught/*.tif | wc -l)" -eq 2 ] || fail 'one class asked for'

# refusals
expect 2 'exists already' diffuse train $data -o teacher.safetensors
expect 2 'no option of .lab diffuse sample' diffuse sample teacher.safetensors --plan 4,1 -o x
expect 2 'say train, distill, sample or compare' diffuse melt
expect 2 'each number divides' diffuse distill teacher.safetensors $data --plan 16,5 -o x.safetensors
expect 2 'distilled already' diffuse distill student.safetensors $data -o x.safetensors
expect 2 'does not divide' diffuse sample teacher.safetensors --calls 5 -o x
expect 2 'knows no class' diffuse sample teacher.safetensors --class burnt -o x
expect 2 'whole factor' diffuse train $data --size 5 -o x.safetensors
expect 6 'other settings' diffuse train $data "${quick[@]}" --updates 99 --resume -o teacher.safetensors
expect 6 'images.idx is no model' diffuse sample images.idx -o x
[ ! -e x ] && [ ! -e x.safetensors ] || fail 'a refusal left something behind'

# an event: pairs of dates, grades as classes; a diffusion model is no damage model
make_scene scene 3 && [ -f scene/pre.tif ] || { echo 'no scene maker; the rest is left out'; finish; exit; }
"$aftermap" tile --pre scene/pre.tif --post scene/post.tif --footprints scene/footprints.gpkg --label-field damage -o event -q >/dev/null
find event -type f -exec sha256sum {} + | sort >before.txt
diffuse train event --size 8 "${quick[@]}" --updates 3 -o event.safetensors -q >/dev/null || fail 'train on an event'
diffuse sample event.safetensors --class destroyed --count 2 --calls 4 -o pairs --json -q >pairs.json || fail 'sample of an event'
jq -e '.dates == 2 and .bands == 6 and .files[0].class == "destroyed"' pairs.json >/dev/null || fail "$(cat pairs.json)"
find event -type f -exec sha256sum {} + | sort | cmp -s - before.txt || fail 'the event changed'
for command in 'assess event -o maps --model' 'evaluate --truth event' 'label next event --model'; do
    # shellcheck disable=SC2086
    expect 6 'event.safetensors: is a diffusion model, which makes images up' "$aftermap" $command event.safetensors
done
"$aftermap" info event.safetensors --json >info.json || fail 'info refuses a diffusion model'
jq -e '.[0] | .kind == "diffusion model" and (.use | test("no damage")) and .metadata["source.split"] == "event"' info.json >/dev/null ||
    fail "info tells $(cat info.json)"

# --synthetic: made-up images teach beside observed ones, only when asked for, and the model says so
train() { "$aftermap" train "$@" --method supervised --preset lite --steps 2 --batch 4 -q --progress none; }
diffuse sample event.safetensors --count 3 --calls 2 -o grades -q >/dev/null || fail 'sample of every grade'
train event --json -o real.safetensors >real.json || fail 'train'
train event --synthetic grades --json -o joined.safetensors >joined.json 2>warned.txt || fail "train --synthetic: $(cat warned.txt)"
jq -e '.made_up == 12 and (has("source") | not)' joined.json >/dev/null || fail "train reports $(cat joined.json)"
[ "$(jq .labeled real.json)" = "$(jq .labeled joined.json)" ] && [ "$(jq .unlabeled real.json)" = "$(jq .unlabeled joined.json)" ] ||
    fail 'made-up images count as observed ones'
"$aftermap" info joined.safetensors --json | jq '.[0]' >joined.json
digest=$("$aftermap" info event.safetensors --json | jq -r '.[0].digest[:16]')
jq -e --arg maker "diffusion $digest" '.metadata | .synthetic == "grades" and ."synthetic.n" == "12" and ."synthetic.models" == $maker and
    (."synthetic.of_class" | fromjson | .damaged.made_up == 6 and .undamaged.made_up == 6 and .damaged.observed > 6)' joined.json >/dev/null ||
    fail "the model does not say what taught it: $(jq -c .metadata joined.json)"
"$aftermap" info real.safetensors --json | jq -e '[.[0].metadata | keys[] | select(startswith("synthetic"))] == []' >/dev/null ||
    fail 'a model of observed images says it learnt from made-up ones'
[ "$("$aftermap" info real.safetensors --json | jq '.[0].labels_used')" = "$(jq .labels_used joined.json)" ] || fail 'made-up labels are kept as labels'
find event -type f -exec sha256sum {} + | sort | cmp -s - before.txt || fail 'the event changed'
"$aftermap" train event --method supervised --preset lite --steps 2 --batch 4 --synthetic grades/synthetic-none-00001.tif --json \
    -o one.safetensors 2>warned.txt | jq -e '.made_up == 1' >/dev/null || fail 'one file'
grep -q 'others none' warned.txt || fail "no word that only one class has made-up images: $(cat warned.txt)"
cp -r grades other
gdal_translate -q -mo TIFFTAG_IMAGEDESCRIPTION=photograph grades/synthetic-none-00001.tif other/synthetic-none-00001.tif
expect 3 'does not say that a model made it up' train event --synthetic other -o x.safetensors
expect 3 'no synthetic-' train event --synthetic scene -o x.safetensors
expect 2 'images which this run holds out' train $data --synthetic made --seed 9 -o x.safetensors
train $data --synthetic made --seed 1 --json -o plain.safetensors 2>/dev/null | jq -e '.made_up == 6' >/dev/null || fail 'a plain set'
expect 3 'shows "0", which is no class of event' train event --synthetic made -o x.safetensors
"$aftermap" tile --pre scene/pre.tif --post scene/post.tif --footprints scene/footprints.gpkg -o bare -q >/dev/null
expect 3 'has no observed label' train bare --synthetic grades -o x.safetensors
# how far they are from real images: a model of three updates is further than one half of the real ones from the other
diffuse compare event grades --classifier real.safetensors --json -q >compared.json || fail 'compare failed'
jq -e '.rows | length == 2 and .[0].images == "real against real" and .[1].images == "grades" and all(.n == 12) and
    .[1].swd > .[0].swd and .[1].kcd > .[0].kcd and .[1].fcd > .[0].fcd and .[1].recall < .[0].recall and all(.precision >= 0 and .recall <= 1) and .[1].memory > 0' compared.json >/dev/null ||
    fail "compare tells $(cat compared.json)"
expect 3 'no synthetic-' diffuse compare event scene --classifier real.safetensors
expect 2 'with --classifier' diffuse compare event grades
expect 6 'is a diffusion model' diffuse compare event grades --classifier event.safetensors

# without the option: a folder of them is no set, an event cut from them no place to learn or label
mkdir -p set/a set/b && cp made/synthetic-0-*.tif set/a && cp made/synthetic-1-*.tif set/b
expect 3 'made up by a model' train folder:set -o x.safetensors
cp -r event invented && jq '.synthetic = true' event/event.json >invented/event.json
expect 3 'cut from images that a model made up' train invented -o x.safetensors
expect 3 'cut from images that a model made up' train event --source invented -o x.safetensors
expect 3 'cut from images that a model made up' "$aftermap" label next invented
expect 3 'cut from images that a model made up' diffuse train invented -o x.safetensors
[ ! -e x.safetensors ] || fail 'a refusal left something behind'
finish
