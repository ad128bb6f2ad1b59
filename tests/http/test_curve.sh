#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The learning curve of `aftermap serve --data-root`: models are trained and predict, and what /metrics then says of each on the
# blind labels is worked out again from the maps' own tables by awk; the queue keeps the blind draw away from what teaches.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for tool in curl jq ogr2ogr; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done
. "$here/server.sh" "$1"
make_data_root
start_server --data-root "$root"
J='Content-Type: application/json'
A=$base/assessments/demo
get() { curl -sS "$@"; }
follow() { # job id: its last status
    timeout 120 curl -sSN "$base/jobs/$1/events" | grep '^data: ' | tail -1 | cut -c7- | jq -r .status
}
process() { # name, inputs without the assessment
    follow "$(curl -sS -H "$J" -d "{\"inputs\":{\"assessment\":\"demo\"$2}}" "$base/processes/$1/execution" | jq -r .jobID)"
}
job=$(curl -sS -H "$J" -d '{"id":"demo","title":"Demo","pre":["scenes/pre.tif"],"post":["scenes/post.tif"],"footprints":"scenes/houses.gpkg","size_m":16,"gsd_m":0.5}' "$base/assessments" | jq -r .job.jobID)
check "imported" "$(follow "$job")" successful
for _ in $(seq 100); do [ "$(get "$A" | jq -r .state)" = ready ] && break; sleep 0.1; done

echo "# what teaches and what judges"
for user in ana ben cy; do get "$A/queue?n=200&mode=train&user=$user"; done | jq -r '.items[].bldg_id' | sort >"$work/teach"
get "$A/queue?n=200&mode=validate&user=dee" | jq -r '.items[].bldg_id' | sort >"$work/blind"
check "handed out" "$(wc -l <"$work/teach") $(wc -l <"$work/blind")" "600 200"
check "none is both" "$(comm -12 "$work/teach" "$work/blind" | wc -l)" 0
b=$(head -1 "$work/blind")
check "a late label to teach" "$(curl -sS -X PUT -H "$J" -H 'If-None-Match: *' -d '{"dmg_class":"none","purpose":"train"}' "$A/labels/$b" | jq -c '[.purpose,(.draw > 0)]')" '["validate",true]'
check "counts" "$(get "$A/metrics" | jq -c '[.n_train,.n_validate]')" "[0,1]"
curl -sS -o /dev/null -X DELETE -H "If-Match: $(get "$A/labels/$b" | jq -r .etag)" "$A/labels/$b"

echo "# models"
# Grades by the fixture's formula: 20 of what the queue gave to teach, up to 200 blind ones.
{
    echo bldg_id,grade,purpose
    for purpose in train validate; do
        [ $purpose = train ] && file=$work/teach || file=$work/blind
        awk -v purpose=$purpose 'BEGIN { split("none minor major destroyed", name, " "); most = purpose == "train" ? 5 : 50 }
            { n = substr($1, 2) - 1; level = (7 * (n % 35) + 3 * int(n / 35)) % 5 }
            level < 4 && kept[level]++ < most { print $1 "," name[level + 1] "," purpose }' "$file"
    done
} >"$work/labels.csv"
check "labels" "$(curl -sS -H 'Content-Type: text/csv' --data-binary "@$work/labels.csv" "$A/labels" | jq -c '[.n_refused, (.created > 140)]')" "[0,true]"
k=0
# One that learns, then four that had no time to: all of one mind, and not of the first one's.
for steps in 60 1 1 1 1; do
    k=$((k + 1))
    check "training $k" "$(process train ",\"steps\":$steps,\"seed\":1,\"preset\":\"lite\",\"batch\":8,\"max_items\":64")" successful
    check "map $k" "$(process predict ',"tta":"1"')" successful
    cp "$root/demo/map/damage.csv" "$work/map$k.csv"
    for _ in $(seq 100); do [ "$(ls "$root"/demo/models/*.scores 2>/dev/null | wc -l)" = $k ] && break; sleep 0.1; done
    [ $k = 4 ] && check "two calm rounds are not enough" "$(get "$A/metrics" | jq -c .stop_suggested)" false
done
get "$A/metrics" >"$work/m"

# f1, ap and auroc of a map on the blind labels, by their definitions; the part of its rows that another map calls otherwise.
figures() {
    ogr2ogr -q -f CSV -lco SEPARATOR=TAB /vsistdout/ "$1" -sql "SELECT bldg_id, p_dmg FROM \"$(basename "$1" .csv)\"" | tr -d '"\r' >"$work/p"
    awk -F'[,\t]' 'NR == FNR { if ($3 == "validate") truth[$1] = ($2 == "major" || $2 == "destroyed"); next }
        ($1 in truth) && $2 != "" { n++; p[n] = $2 + 0; y[n] = truth[$1]; positives += y[n] }
        END {
            for (i = 1; i <= n; i++) {
                hit += p[i] >= 0.5 && y[i]; shown += p[i] >= 0.5
                if (!y[i]) continue
                above = right = 0
                for (j = 1; j <= n; j++) {
                    above += p[j] >= p[i]; right += p[j] >= p[i] && y[j]
                    if (!y[j]) pairs += p[i] > p[j] ? 1 : p[i] == p[j] ? 0.5 : 0
                }
                ap += right / above
            }
            printf "%d %.3f %.3f %.3f\n", n, 2 * hit / (shown + positives), ap / positives, pairs / (positives * (n - positives))
        }' "$work/labels.csv" "$work/p"
}
said() { jq -r ".curve[$1] | \"\(.n_judged) \(.f1) \(.ap) \(.auroc)\"" "$work/m" | awk '{ printf "%d %.3f %.3f %.3f\n", $1, $2, $3, $4 }'; }
near() { # two lines of figures: whether they are the same to 0.0011
    awk -v a="$1" -v b="$2" 'BEGIN { n = split(a, x, " "); same = n == split(b, y, " ") && n == 4
        for (i = 1; i <= n; i++) { d = x[i] - y[i]; same = same && d < 0.0011 && d > -0.0011 }
        print same ? "same" : a " / " b }'
}
for i in 0 1; do check "figures of map $((i + 1))" "$(near "$(said $i)" "$(figures "$work/map$((i + 1)).csv")")" same; done
check "the interval holds the figure" "$(jq -c '.curve[1] | .f1_low <= .f1 and .f1 <= .f1_high and .f1_low < .f1_high' "$work/m")" true
for k in 1 2; do ogr2ogr -q -f CSV -lco SEPARATOR=TAB /vsistdout/ "$work/map$k.csv" -sql "SELECT bldg_id, dmg_level, p_dmg FROM map$k" | tr -d '"\r' | awk -F'\t' 'NR > 1 && $3 != ""' >"$work/l$k"; done
check "what the second changed" "$(jq '.curve[1].changed_share * 1000 | round' "$work/m")" \
    "$(awk -F'\t' 'NR == FNR { l[$1] = $2; next } $1 in l { n++; k += l[$1] != $2 } END { printf "%.0f", 1000 * k / n }' "$work/l1" "$work/l2")"
check "that was much" "$(jq -c '.curve[1].changed_share > 0.05' "$work/m")" true
check "nothing since, so stop" "$(jq -c '[.curve[0].changed_share, .curve[2:][].changed_share, .stop_suggested, (.stop_reason | contains("1 %"))]' "$work/m")" '[null,0,0,0,true,true]'
check "the same from memory" "$(get "$A/metrics" | jq -c .curve)" "$(jq -c .curve "$work/m")"
v=$(awk -F, '$3 == "validate" { print $1; exit }' "$work/labels.csv")
curl -sS -o /dev/null -X DELETE -H "If-Match: $(get "$A/labels/$v" | jq -r .etag)" "$A/labels/$v"
check "judged on today's labels" "$(get "$A/metrics" | jq '.curve[0].n_judged')" "$(($(jq '.curve[0].n_judged' "$work/m") - 1))"

echo "# models as files"
get "$A/models" >"$work/l"
check "all, the newest first" "$(jq -c '[.models[].id]' "$work/l")" "[$(ls "$root/demo/models" | sed -n 's/^m-\([0-9]*\)[.]safetensors$/\1/p' | sort -rn | sed 's/.*/"m-&"/' | paste -sd,)]"
m=$(jq -r '.models[0].id' "$work/l")
get "$A/models/$m" >"$work/card"
check "a card" "$(jq -c '[.id, .card."train.step", (.card."train.config" | type), (.parameters > 1000)]' "$work/card")" "[\"$m\",\"1\",\"object\",true]"
get "$A/models/$m/weights.safetensors" >"$work/weights"
check "its weights" "$(cmp "$work/weights" "$root/demo/models/$m.safetensors" && echo same)" same
check "a part of them" "$(curl -sS -r 8-107 "$A/models/$m/weights.safetensors" | cmp - <(tail -c +9 "$work/weights" | head -c 100) && echo same)" same
for none in m-0 m-99 m-01 ../store m-1.labels; do check "no model $none" "$(code --path-as-is "$A/models/${none//\//%2f}") $(code "$A/models/${none//\//%2f}/weights.safetensors")" "404 404"; done

[ $failed -eq 0 ] || { echo "$failed failed"; cat "$work/stderr"; exit 1; }
