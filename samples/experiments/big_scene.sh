#!/usr/bin/env bash
# Does memory stay bounded and time stay sane on a county? Draws a scene of 20000 x 20000 pixels with 20,000 footprints, tiles and
# assesses it, and prints time and peak memory of each step beside GDAL merely reading the same windows.
#
# Usage: big_scene.sh [options] [MODEL.safetensors]
#   Without a model, one is trained for a few steps on a small scene: its map is worth nothing, its speed is the same.
#   --size-px 20000    side of the pre image
#   --buildings 20000  footprints
#   --assess OPTIONS   more options for `aftermap assess`, e.g. '--tta 1'
#   -o DIR             where all of it goes, some 2 GB (default ./big_scene); the scene is kept for the next run
#   -b DIR             build folder (default: build/ of this source tree)
set -euo pipefail

die() {
    echo "big_scene: $*" >&2
    exit 2
}

size=20000 buildings=20000 out=big_scene build=$(dirname "$0")/../../build model='' more=()
while [ $# -gt 0 ]; do
    case $1 in
    --size-px | --buildings | --assess | -o | -b) [ $# -gt 1 ] || die "$1 wants a value" ;;
    -h | --help)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
        exit 0
        ;;
    -*) die "unknown option $1" ;;
    *)
        model=$1
        shift
        continue
        ;;
    esac
    case $1 in
    --size-px) size=$2 ;;
    --buildings) buildings=$2 ;;
    --assess) read -r -a more <<<"$2" ;;
    -o) out=$2 ;;
    -b) build=$2 ;;
    esac
    shift 2
done
[ -x "$build/aftermap" ] || die "$build/aftermap: not there; build first, or name the build folder with -b"
cmake --build "$build" --target aftermap-scene aftermap-read-windows >/dev/null
mkdir -p "$out"

# measure NAME COMMAND...: runs it and appends NAME, wall seconds, CPU seconds and peak resident memory to the table. The peak
# is the kernel's high-water mark, looked at twenty times a second, so that no further package is needed.
measure() {
    local name=$1 start peak=0 now pid status=0
    shift
    echo "-- $*" >&2
    start=$(date +%s.%N)
    "$@" >"$out/$name.log" 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        now=$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true)
        [ "${now:-0}" -le "$peak" ] || peak=$now
        sleep 0.05
    done
    wait "$pid" || status=$?
    [ "$status" -eq 0 ] || {
        tail -n 5 "$out/$name.log" >&2
        die "$name ended with $status"
    }
    awk -v n="$name" -v a="$start" -v b="$(date +%s.%N)" -v p="$peak" 'BEGIN { printf "%-14s %9.1f s %9.0f MiB\n", n, b - a, p / 1024 }' |
        tee -a "$out/table.txt" >&2
}

: >"$out/table.txt"
scene=$out/scene
[ -f "$scene/truth.json" ] ||
    measure draw "$build/aftermap-scene" --size-px "$size" --buildings "$buildings" -q -o "$scene"
if [ -z "$model" ]; then
    model=$out/model.safetensors
    if [ ! -f "$model" ]; then
        "$build/aftermap-scene" --size-px 800 -q -o "$out/small"
        "$build/aftermap" tile --pre "$out/small/pre.tif" --post "$out/small/post.tif" --footprints "$out/small/footprints.gpkg" \
            --label-field damage --overwrite -o "$out/small-event" 2>/dev/null
        "$build/aftermap" train "$out/small-event" --method supervised --steps 10 --overwrite -o "$model" 2>/dev/null
    fi
fi
measure tile "$build/aftermap" tile --pre "$scene/pre.tif" --post "$scene/post.tif" --footprints "$scene/footprints.gpkg" \
    --label-field damage --overwrite -o "$out/event"
measure assess "$build/aftermap" assess "$out/event" --model "$model" "${more[@]}" --overwrite -o "$out/map"
measure read-windows "$build/aftermap-read-windows" "$scene/pre.tif" "$scene/post.tif" "$scene/footprints.gpkg" 32
measure read-pre gdalinfo -checksum "$scene/pre.tif"
measure read-post gdalinfo -checksum "$scene/post.tif"

echo
echo "scene of $size x $size pixels, $buildings footprints; wall time and peak memory"
cat "$out/table.txt"
echo "GDAL alone, the windows: $(cat "$out/read-windows.log")"
