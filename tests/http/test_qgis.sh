#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# QGIS as a client, without a screen (label qgis: python3-qgis brings half a gigabyte along, so it is asked for by name:
# ctest -L qgis). Numbers it must find come from ogrinfo on the map's own files.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for tool in curl jq ogr2ogr ogrinfo; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done
python=/usr/bin/python3 # Debian's, which python3-qgis is for
$python -c 'import qgis.core' 2>/dev/null || { echo "python3-qgis is not installed"; exit 77; }
. "$here/server.sh" "$1"
make_data_root
start_server --data-root "$root"
J='Content-Type: application/json'
A=$base/assessments/demo
follow() { # job: waits for its end
    check "$1" "$(timeout 300 curl -sSN "$base/jobs/$2/events" | grep '^data: ' | tail -1 | cut -c7- | jq -r .status)" successful
}
process() { follow "$1" "$(curl -sS -H "$J" -d "{\"inputs\":{\"assessment\":\"demo\",$2}}" "$base/processes/$1/execution" | jq -r .jobID)"; }
follow import "$(curl -sS -H "$J" -d '{"id":"demo","title":"Demo","pre":["scenes/pre.tif"],"post":["scenes/post.tif"],
    "footprints":"scenes/houses.gpkg","size_m":16,"gsd_m":0.5}' "$base/assessments" | jq -r .job.jobID)"
# Twenty grades by the fixture's formula: enough for the map to have damaged and other buildings.
awk 'BEGIN { print "bldg_id,grade"; split("none minor major destroyed", name, " ")
    for (n = 600; n < 625; n++) { level = (7 * ((n - 1) % 35) + 3 * int((n - 1) / 35)) % 5; if (level < 4) print "b" n "," name[level + 1] } }' |
    curl -sS -o /dev/null -H 'Content-Type: text/csv' --data-binary @- "$A/labels"
process train '"steps":20,"seed":1,"preset":"lite","batch":8,"max_items":64'
process predict '"tta":"1"'
until [ "$(curl -sS "$A" | jq -c '[.layers[] | select(.id == "damage").available]')" = '[true]' ]; do sleep 0.1; done
map=$root/demo/map
box="15.0008123456789 46.9541 15.0021 46.95503"
n() { ogrinfo -so "$@" "$map/damage.gpkg" buildings | sed -n 's/^Feature Count: //p'; }
curl -sS -o "$work/damage.gpkg" "$base/assessments/demo/exports/damage.gpkg"
# A profile of its own: nobody's settings, nothing left behind.
env -i PATH="$PATH" HOME="$work/home" LANG=C.UTF-8 QT_QPA_PLATFORM=offscreen XDG_RUNTIME_DIR="$work" QGIS_CUSTOM_CONFIG_PATH="$work/home" \
    timeout 300 $python "$here/qgis_layers.py" "$base" "$work/damage.gpkg" "$(n)" "$(n -where "status='ok'")" \
    "$(n -spat $box)" $box 2>"$work/e"
check "QGIS" $? 0
[ $failed -eq 0 ] || { cat "$work/e" "$work/stderr"; exit 1; }
