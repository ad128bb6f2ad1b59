#!/usr/bin/env bash
# What a private student is worth on digits: accuracy over epsilon of a student that learns by MixMatch and of one that uses the
# released answers alone, both from the same teachers' votes (Papernot et al. 2018; Berthelot et al. 2019, section 4.3).
#
# Usage: pate_digits.sh IMAGES LABELS [option of `aftermap lab pate`...]
#   IMAGES, LABELS   MNIST's training files (IDX, plain or gzip). 48,000 items teach 250 teachers, 8,400 are the student's, 3,600
#                    score. They are shrunk to 16 pixels, which makes this a matter of minutes.
#   AFTERMAP         the program (default: aftermap)
#   OUT              folder (default: ./pate_digits); called again, it goes on where it was stopped
#
# Some 15 minutes of CPU time, 8 on two quiet cores (reckoned from single teachers). Prints a row a student and leaves OUT/curve.csv
# and OUT/curve.svg. Published, on 28 pixels and with larger networks: 98.5 % at epsilon 1.97, delta 1e-5, by a data-dependent account
# (Papernot et al. 2018); the epsilon here is data-independent, so larger for as many queries.
set -euo pipefail
[ $# -ge 2 ] || {
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
    exit 2
}
images=$1 labels=$2
shift 2
exec "${AFTERMAP:-aftermap}" lab pate "idx:$images,$labels@size=16" --no-mirror --teachers 250 --teacher-steps 150 --teacher-batch 16 \
    --mechanism confident-gnmax --threshold 200 --sigma-threshold 150 --sigma 40 --delta 1e-5 --queries 50,100,200,400 \
    --student mixmatch,supervised --steps 1500 --batch 32 -o "${OUT:-pate_digits}" "$@"
