#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Diffusion on an event's chips at 16 pixels, as the specification's tier C asks for: a teacher of 256 steps (100,000
# images), TRACT 256,16,1 and binary time distillation of it (60,000 images each), then a sheet of samples of each to
# look at: the teacher in 64 calls and in one, both students in one; and how far each is from real chips, in the features
# of a classifier trained here (on observed chips alone) and in pixels: OUT_DIR/compared.txt. Some 5 + 5 + 5 minutes of one
# core, and 2 for the classifier. Called again it goes on where it was stopped.
# Usage: tract_patches.sh AFTERMAP EVENT OUT_DIR [DIVISOR [SEED]]; a DIVISOR of 100 tries the script in half a minute.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '3,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
aftermap=$1 event=$2 out=$3 divisor=${4:-1} seed=${5:-1}
count=$((divisor > 1 ? 8 : 64))
mkdir -p "$out"

# step FILE ARGUMENTS...: to the end of the run, from wherever FILE stands
step() {
    local file=$1
    shift
    local resume=()
    [ ! -e "$file" ] || resume=(--resume)
    "$aftermap" lab diffuse "$@" --seed "$seed" "${resume[@]}" -o "$file"
}
step "$out/teacher.safetensors" train "$event" --size 16 --updates $((1560 / divisor))
step "$out/tract.safetensors" distill "$out/teacher.safetensors" "$event" --plan 256,16,1 --updates $((940 / divisor))
step "$out/btd.safetensors" distill "$out/teacher.safetensors" "$event" --method btd --updates $((940 / divisor > 8 ? 940 / divisor : 8))

for model in teacher:64 teacher:1 tract:1 btd:1; do
    name=${model%:*} calls=${model#*:}
    "$aftermap" lab diffuse sample "$out/$name.safetensors" --calls "$calls" --count "$count" --seed "$seed" --overwrite \
        -o "$out/$name-$calls"
done

[ -e "$out/classifier.safetensors" ] || "$aftermap" train "$event" --method supervised --seed "$seed" \
    --steps $((600 / divisor > 2 ? 600 / divisor : 2)) -o "$out/classifier.safetensors"
"$aftermap" lab diffuse compare "$event" "$out"/{teacher-64,teacher-1,tract-1,btd-1} --classifier "$out/classifier.safetensors" \
    --seed "$seed" | tee "$out/compared.txt"
