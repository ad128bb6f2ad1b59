#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A whole scene end to end (`tile`, then `assess`) beside the floor under it: the time GDAL alone takes to read the same windows
# plus pure inference of as many chips. One JSON line; on a shared machine its CPU seconds (user + system, *_cpu_s) say more
# than the wall clock's. The floor's inference is timed on two threads: the median call, and for its CPU twice the fastest.
#
#   bench_scene.sh BUILD_DIR [--size-px N] [--buildings N] [--tta 1|8] [--precision fp32|int8] [-o DIR]
#
# The scene (20000 pixels a side and 20,000 footprints unless told otherwise, about 2 GB) is drawn into DIR once and kept.
set -euo pipefail
[ $# -ge 1 ] || {
    sed -n '3,9s/^# \{0,1\}//p' "$0" >&2
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
exec {nap}<> <(:) # read -t from it sleeps without a process

# measure COMMAND...: runs it and sets took_s, cpu_s and peak_mib. The peak is the kernel's high-water mark, looked at ten times
# a second. What it prints is in run.log.
measure() {
    local TIMEFORMAT='%R %U %S' pid key value rest
    peak_mib=0
    {
        time {
            "$@" >"$out/run.log" 2>"$out/run.err" &
            pid=$!
            while kill -0 $pid 2>/dev/null; do
                while read -r key value rest; do
                    [ "$key" != VmHWM: ] || peak_mib=$((value / 1024))
                done 2>/dev/null <"/proc/$pid/status" || true
                read -r -t 0.1 -u "$nap" || true
            done
            wait $pid || { tail -n 3 "$out/run.err" >&3; exit 1; }
        }
    } 3>&2 2>"$out/time.txt"
    read -r took_s value rest <"$out/time.txt"
    cpu_s=$(awk -v u="$value" -v s="$rest" 'BEGIN { print u + s }')
}
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
measure "$read_windows" "$scene/pre.tif" "$scene/post.tif" "$scene/footprints.gpkg" 32
windows_s=$(sed 's/.*"seconds": \([0-9.]*\).*/\1/' "$out/run.log") windows_cpu_s=$cpu_s
measure "$build/aftermap" tile --pre "$scene/pre.tif" --post "$scene/post.tif" --footprints "$scene/footprints.gpkg" \
    --label-field damage --overwrite -q -o "$out/event"
tile_s=$took_s tile_cpu_s=$cpu_s tile_mib=$peak_mib
measure "$build/aftermap" assess "$out/event" --model "$out/model.safetensors" --tta "$views" --precision "$precision" \
    --overwrite -q --json -o "$out/map"
assess_s=$took_s assess_cpu_s=$cpu_s assess_mib=$peak_mib
chips=$(sed -n 's/.*"predicted":[[:space:]]*\([0-9]*\).*/\1/p' "$out/run.log")
work=$([ "$precision" = int8 ] && echo int8 || echo infer)
read -r batch_s fastest_s < <(echo "times $work lite 64 7 2 32 2 5" | "$build/tests/bench/bench_compare" |
    sed 's/.*\[\(.*\)\].*/\1/' | tr , '\n' | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)], v[1] }')
awk -v t="$tile_s" -v tc="$tile_cpu_s" -v tm="$tile_mib" -v a="$assess_s" -v ac="$assess_cpu_s" -v am="$assess_mib" \
    -v w="$windows_s" -v wc="$windows_cpu_s" -v s="$batch_s" -v f="$fastest_s" -v n="$chips" -v v="$views" -v size="$size" -v p="$precision" 'BEGIN {
    inference = s / 32 * n * v
    inference_cpu = 2 * f / 32 * n * v
    printf "{\"work\":\"scene %d px, %d chips, %d views, %s\",\"ours\":%.2f,\"peer\":%.2f,\"ratio\":%.2f,\"unit\":\"s\",", \
        size, n, v, p, t + a, w + inference, (t + a) / (w + inference)
    printf "\"tile_s\":%.2f,\"assess_s\":%.2f,\"windows_s\":%.2f,\"inference_s\":%.2f,", t, a, w, inference
    printf "\"tile_cpu_s\":%.2f,\"assess_cpu_s\":%.2f,\"windows_cpu_s\":%.2f,\"inference_cpu_s\":%.2f,\"cpu_ratio\":%.2f,", \
        tc, ac, wc, inference_cpu, (tc + ac) / (wc + inference_cpu)
    printf "\"tile_mib\":%d,\"assess_mib\":%d}\n", tm, am
}'
