#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A whole scene end to end (`tile`, then `assess`) beside the floor under it: the time GDAL alone takes to read the same windows
# plus pure inference of as many chips. One JSON line.
#
#   bench_scene.sh BUILD_DIR [--size-px N] [--buildings N] [--tta 1|8] [--precision fp32|int8] [-o DIR]
#
# The scene (20000 pixels a side and 20,000 footprints unless told otherwise, about 2 GB) is drawn into DIR once and kept.
set -euo pipefail
[ $# -ge 1 ] || {
    sed -n '3,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
build=$(realpath "$1")
shift
size=20000 buildings=20000 views=8 precision=fp32 out=bench_scene
while [ $# -gt 1 ]; do
    case $1 in
    --size-px) size=$2 ;;
    --buildings) buildings=$2 ;;
    --tta) views=$2 ;;
    --precision) precision=$2 ;;
    -o) out=$2 ;;
    *)
        echo "bench_scene: unknown option $1" >&2
        exit 2
        ;;
    esac
    shift 2
done
cmake --build "$build" --target aftermap aftermap-scene aftermap-read-windows bench_compare >/dev/null
mkdir -p "$out"
now() { date +%s.%N; }
scene=$out/scene-$size-$buildings
[ -f "$scene/truth.json" ] ||
    "$build/aftermap-scene" --size-px "$size" --buildings "$buildings" -q -o "$scene"
if [ ! -f "$out/model.safetensors" ]; then
    "$build/aftermap-scene" --size-px 800 -q -o "$out/small"
    "$build/aftermap" tile --pre "$out/small/pre.tif" --post "$out/small/post.tif" \
        --footprints "$out/small/footprints.gpkg" --label-field damage --overwrite -q -o "$out/small-event" >/dev/null
    "$build/aftermap" train "$out/small-event" --method supervised --steps 10 -q -o "$out/model.safetensors" >/dev/null
fi
read_windows=$(find "$build" -name aftermap-read-windows -type f | head -n 1)
"$read_windows" "$scene/pre.tif" "$scene/post.tif" "$scene/footprints.gpkg" 32 >/dev/null # warms the page cache for both
windows_s=$("$read_windows" "$scene/pre.tif" "$scene/post.tif" "$scene/footprints.gpkg" 32 |
    sed 's/.*"seconds": \([0-9.]*\).*/\1/')
t0=$(now)
"$build/aftermap" tile --pre "$scene/pre.tif" --post "$scene/post.tif" --footprints "$scene/footprints.gpkg" \
    --label-field damage --overwrite -q -o "$out/event" >/dev/null
t1=$(now)
chips=$("$build/aftermap" assess "$out/event" --model "$out/model.safetensors" --tta "$views" --precision "$precision" \
    --overwrite -q --json -o "$out/map" 2>/dev/null | sed -n 's/.*"predicted":[[:space:]]*\([0-9]*\).*/\1/p')
t2=$(now)
work=$([ "$precision" = int8 ] && echo int8 || echo infer)
batch_s=$(echo "times $work lite 64 7 2 32 2 5" | "$build/tests/bench/bench_compare" |
    sed 's/.*\[\(.*\)\].*/\1/' | tr , '\n' | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }')
awk -v a="$t0" -v b="$t1" -v c="$t2" -v w="$windows_s" -v s="$batch_s" -v n="$chips" -v v="$views" -v size="$size" \
    -v p="$precision" 'BEGIN {
    inference = s / 32 * n * v
    printf "{\"work\":\"scene %d px, %d chips, %d views, %s\",\"ours\":%.2f,\"peer\":%.2f,\"ratio\":%.2f,\"unit\":\"s\",", \
        size, n, v, p, c - a, w + inference, (c - a) / (w + inference)
    printf "\"tile_s\":%.2f,\"assess_s\":%.2f,\"windows_s\":%.2f,\"inference_s\":%.2f}\n", b - a, c - b, w, inference
}'
