#!/usr/bin/env bash
# How much a few labels are worth on one event: five label draws of ten labels per class, supervised and FixMatch on the same
# labels for the same steps, the colour-statistics baseline on the same labels, and supervised on every training label as the ceiling.
# Prints a tidy CSV (one row a run and model) and then mean and spread, all on the event's held-out blocks.
#
# Usage: label_efficiency.sh [options] EVENT
#        label_efficiency.sh [options] PRE POST FOOTPRINTS [tile options, e.g. --label-field damage --label-map no-damage=none,...]
#   EVENT is a folder made by `aftermap tile`; with rasters, one is made under the results folder first.
#   --cut 2            damaged means this level or worse
#   --labels 10        labels per class
#   --draws 5          label draws: seeds 1 to N
#   --steps 300        steps of every run
#   --ceiling-draws 1  seeds of the ceiling
#   --resplit          with rasters: tile anew for each draw with --split-seed N, so that the spread also shows the choice of test blocks
#   --train 'OPTIONS'  more options for every `aftermap train`, e.g. '--preset lite3'
#   -o DIR             results (default ./label_efficiency); a run whose result is there already is not repeated
#   -b FILE            the aftermap program (default: the one in build/, else on the path)
set -euo pipefail

die() {
    echo "label_efficiency: $*" >&2
    exit 2
}

cut=2 labels=10 draws=5 steps=300 ceiling=1 resplit='' out=label_efficiency more=()
aftermap=$(dirname "$0")/../../build/aftermap
[ -x "$aftermap" ] || aftermap=aftermap
while [ $# -gt 0 ]; do
    case $1 in
    --cut | --labels | --draws | --steps | --ceiling-draws | --train | -o | -b) [ $# -gt 1 ] || die "$1 wants a value" ;;
    --resplit)
        resplit=1
        shift
        continue
        ;;
    -h | --help)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
        exit 0
        ;;
    -*) die "unknown option $1" ;;
    *) break ;;
    esac
    case $1 in
    --cut) cut=$2 ;;
    --labels) labels=$2 ;;
    --draws) draws=$2 ;;
    --steps) steps=$2 ;;
    --ceiling-draws) ceiling=$2 ;;
    --train) read -r -a more <<<"$2" ;;
    -o) out=$2 ;;
    -b) aftermap=$2 ;;
    esac
    shift 2
done
[ $# -eq 1 ] || [ $# -ge 3 ] || die "give an event folder, or pre, post and footprints (--help)"
command -v jq >/dev/null || die "needs jq: apt-get install jq"
mkdir -p "$out"

[ -z "$resplit" ] || [ $# -ge 3 ] || die "--resplit needs pre, post and footprints"
sources=("$@")

# event_of SEED: the event folder a draw works on; made when it is not there
event_of() {
    local event=$out/event${resplit:+-$1} options=()
    if [ ${#sources[@]} -eq 1 ]; then
        event=${sources[0]}
        [ -f "$event/event.json" ] || die "$event: no event folder (it has no event.json)"
    elif [ ! -f "$event/event.json" ]; then
        [ -z "$resplit" ] || options=(--split-seed "$1")
        "$aftermap" tile --pre "${sources[0]}" --post "${sources[1]}" --footprints "${sources[2]}" "${sources[@]:3}" \
            "${options[@]}" -o "$event" >&2
    fi
    echo "$event"
}

# one METHOD LABELS SEED: trains and scores unless the score is there. LABELS: a number per class, or all.
one() {
    local method=$1 count=$2 seed=$3 name model event options=()
    name=$method.labels-$count.cut-$cut.steps-$steps.seed-$seed
    [ ! -s "$out/$name.json" ] || return 0
    model=$out/$name.safetensors
    event=$(event_of "$seed")
    [ "$count" = all ] || options=(--labels-per-class "$count")
    echo "-- $name" >&2
    "$aftermap" train "$event" --method "$method" "${options[@]}" --cut "$cut" --seed "$seed" --steps "$steps" "${more[@]}" \
        --resume -o "$model" >&2
    "$aftermap" evaluate "$model" --truth "$event" --split test --json >"$out/$name.json.part"
    mv "$out/$name.json.part" "$out/$name.json"
}

# rows METHOD LABELS SEED: the CSV rows of one score: the model's, and the baseline's with the same labels
rows() {
    local name=$1.labels-$2.cut-$cut.steps-$steps.seed-$3
    jq -r --arg method "$1" --arg labels "$2" --arg seed "$3" --arg cut "$cut" '
        def row($who; $m): [$who, $labels, $cut, $seed,
            ($m | .auroc.value, .auroc.low, .auroc.high, .auprc.value, .f1.value, .accuracy.value
                | if . == null then . else . * 10000 | round / 10000 end)];
        row($method; .), (if $method == "supervised" then row("trivial"; .trivial) else empty end) | @csv' "$out/$name.json" | tr -d '"'
}

for seed in $(seq "$draws"); do
    one supervised "$labels" "$seed"
    one fixmatch "$labels" "$seed"
done
for seed in $(seq "$ceiling"); do
    one supervised all "$seed"
done

csv=$out/results.labels-$labels.cut-$cut.steps-$steps.csv
{
    echo method,labels,cut,seed,auroc,auroc_low,auroc_high,auprc,f1,accuracy
    for seed in $(seq "$draws"); do
        rows supervised "$labels" "$seed"
        rows fixmatch "$labels" "$seed"
    done
    for seed in $(seq "$ceiling"); do
        rows supervised all "$seed"
    done
} >"$csv"
cat "$csv"

# mean and sample standard deviation over the draws
awk -F, 'NR == 1 { next }
    { key = $1 "," $2; if (!(key in n)) order[++k] = key; n[key]++
      for (c = 5; c <= 10; c++) { if ($c == "") continue; m[key, c]++; s[key, c] += $c; q[key, c] += $c * $c } }
    function show(key, c,   mean, v) {
        if (!m[key, c]) return "       -       "
        mean = s[key, c] / m[key, c]; v = m[key, c] > 1 ? (q[key, c] - m[key, c] * mean * mean) / (m[key, c] - 1) : 0
        return sprintf("%.3f (%.3f)", mean, sqrt(v > 0 ? v : 0)) }
    END { printf "\n%-12s %-7s %-6s %-15s %-15s %-15s %-15s\n", "method", "labels", "draws", "AUROC", "AUPRC", "F1", "accuracy"
        for (i = 1; i <= k; i++) { split(order[i], f, ",")
            printf "%-12s %-7s %-6d %-15s %-15s %-15s %-15s\n", f[1], f[2], n[order[i]], show(order[i], 5), show(order[i], 8),
                show(order[i], 9), show(order[i], 10) } }' "$csv"
