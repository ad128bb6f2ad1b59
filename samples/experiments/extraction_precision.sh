#!/usr/bin/env bash
# How exactly, and from how many queries, a two-layer ReLU network is recovered from its answers (Jagielski et al. 2020, section 5):
# networks of several sizes at double precision, then one network as services of several precisions answer.
#
# Usage: extraction_precision.sh [large]
#   large      also a network of 784 inputs (some minutes)
#   AFTERMAP   the program (default: aftermap)
#
# What to expect: errors of 1e-12 to 1e-8 at double precision, softmax or not; about 1e-6 from nine decimals, 1e-3 from six decimals
# or float32; nothing of use from four decimals of logits, no unit at all from three.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" && exit 0 ;; esac
program=${AFTERMAP:-aftermap}
sizes='10-8-1 10-15-2 32-16-4 64-64-4 100-64-10 30-90-4 10-60-3'
[ "${1:-}" != large ] || sizes+=' 784-32-10'
for size in $sizes; do
    "$program" lab extract "random:$size" --width known --progress none
    echo
done
"$program" lab extract random:32-16-4 --width known --queries 100000 --progress none \
    --answers logits,probs,logits:9,logits:float32,probs:float32,logits:6,logits:4,logits:3,probs:4,probs:3
