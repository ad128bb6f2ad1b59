#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The Latent Adversarial Generator on digits, 7 pixels to 28 (Berthelot, Milanfar, Goodfellow 2020): do its versions agree with
# the small image, differ from each other, and lie around the centre (z = 0)? Its paper's claims, on held-out digits.
#
# Usage: lag_digits.sh IMAGES LABELS [option of `aftermap lab lag train`...]
#   IMAGES, LABELS   MNIST's training files (IDX, plain or gzip), 10,000 digits of which are used, 2,000 of them held out
#   AFTERMAP         the program (default: aftermap)
#   OUT              folder (default: ./lag_digits)
#   UPDATES          of 16 images each (default 4000, the 64,000 images of the specification: some 8 minutes of one core; a
#                    quarter of that shows variety, but versions that hardly listen to the small image)
#
# Leaves OUT/lag.safetensors, OUT/claims/synthetic-sheet.png (small image, truth, centre, eight versions a row) and prints the
# figures. Called again it goes on where it was stopped.
set -euo pipefail
[ $# -ge 2 ] || {
    sed -n '3,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
    exit 2
}
images=$1 labels=$2 program=${AFTERMAP:-aftermap} out=${OUT:-lag_digits} updates=${UPDATES:-4000}
shift 2
data="idx:$images,$labels@items=10000"
mkdir -p "$out"
resume=()
[ ! -e "$out/lag.safetensors" ] || resume=(--resume)
"$program" lab lag train "$data" --no-mirror --scale 4 --width 32 --updates "$updates" "$@" "${resume[@]}" \
    -o "$out/lag.safetensors"
"$program" lab lag measure "$data" --model "$out/lag.safetensors" -n 16 --overwrite -o "$out/claims" --json >"$out/claims.json"
jq -r '"images \(.images), versions of each \(.versions); grey levels of 255",
    "standard deviation of a pixel over z         \(.sd)",
    "small image less shrunk centre, rms          \(.off_centre)",
    "small image less shrunk versions, rms        \(.off_versions)",
    "centre to mean of versions / their spread    \(.rho) in features, \(.rho_pixels) in pixels (chance \(1 / (.versions | sqrt)))",
    "centre nearer to the mean than every version \(.nearest) of images in features, \(.nearest_pixels) in pixels",
    "error to the truth: centre, versions, enlarged pixels  \(.error_centre) \(.error_versions) \(.error_plain)"' "$out/claims.json"
