#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Hides classes of labelled sets and finds them again (after Nixon, Liu and Berthelot 2020; definitions our own): Dataset
# Reconstruction Accuracy of `aftermap discover` beside nothing discovered, k-means with the true number of classes, and
# true labels, for several seeds.
#
#   discovery_sets.sh OUT SET HELD [SEEDS [OPTIONS OF discover...]]
#   discovery_sets.sh usps idx:IMAGES,LABELS 5,6,7,8,9 "1 2 3" --no-mirror --steps 300 --labels-per-class 100
#   discovery_sets.sh grades EVENT destroyed "1 2 3" --steps 300 --groups 1
#
# AFTERMAP names the program (default: aftermap); needs jq. Leaves OUT/results.csv, a row a seed, and a folder a seed with
# contact sheets. Called again it keeps what is finished. USPS takes about ten seconds of processor time a seed (7,291
# images of 16 x 16, 300 steps); with --retrain some minutes.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '3,14s/^# \{0,1\}//p' "$0" >&2; exit 2; }
out=$1 set=$2 held=$3 seeds=${4:-1 2 3}
shift 3
[ $# -eq 0 ] || shift
command -v jq >/dev/null || { echo 'discovery_sets.sh needs jq' >&2; exit 2; }
mkdir -p "$out"
for seed in $seeds; do
    [ -e "$out/seed-$seed/discover.json" ] || "${AFTERMAP:-aftermap}" discover "$set" --hold-out "$held" --seed "$seed" -o "$out/seed-$seed" "$@"
done
{
    echo seed,held_out,found,dra,dra_known,dra_novel,many_to_one,rejected,dra_nothing,dra_kmeans,supervised,test_reconstructed,test_true,seconds
    for seed in $seeds; do
        jq -r --arg seed "$seed" '[$seed, (.held_out | length), .found.n_found, .found.dra, .found.dra_known, .found.dra_novel,
            .found.dra_many_to_one, .found.rejected, .baselines.nothing_discovered.dra, .baselines.kmeans_true_number.dra,
            .baselines.supervised, .test_accuracy_reconstructed, .test_accuracy_true_labels, .seconds] | @csv' "$out/seed-$seed/discover.json" | tr -d '"'
    done
} >"$out/results.csv.part"
mv "$out/results.csv.part" "$out/results.csv"
cat "$out/results.csv"
