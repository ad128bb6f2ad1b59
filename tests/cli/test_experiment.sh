#!/usr/bin/env bash
# `aftermap experiment`: a small grid on drawn images; its figures are those of train and evaluate called by hand; stopped
# and called again it ends alike; what is wrong with a file is said before anything runs.
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"
command -v jq >/dev/null || { echo 'no jq'; exit 77; }

unquote() { sed -E 's/"([^"]|"")*"/-/g' "$1"; } # texts that may hold commas

# Records of CIFAR-10's form: each class has a grey of its own, images differ in one row.
for i in $(seq 0 5); do
    for k in 0 1 2 3 4 5 6 7 8 9; do
        printf "\\x0$k"
        head -c 3000 /dev/zero | tr '\0' "\\$(printf %o $((20 + 22 * k)))"
        head -c 72 /dev/zero | tr '\0' "\\$(printf %o $((30 * i)))"
    done
done >plain.bin

describe() { # STEPS
    cat <<EOF
{"title": "greys", "metric": "error", "trivial": "alone", "seeds": [1, 2], "labels": [1, 2], "checkpoints": 3, "bootstrap": 50,
 "data": {"greys": {"is": "drawn images, cifar10:FILE", "layout": "@size=16@bands=1"}},
 "train": {"preset": "lite3", "batch": 4, "steps": $1, "test-share": 0.5},
 "tasks": [{"name": "greys & more", "target": "greys"}],
 "arms": [{"name": "alone", "train": {"method": "supervised"}, "published": [{"labels": 2, "value": 0.25, "deviation": 0.125}]},
          {"name": "with images", "train": {"method": "fixmatch", "mu": 1, "without": "strong"}, "labels": [2]}]}
EOF
}
describe 12 >greys.json
run=("$aftermap" experiment greys.json --data greys=cifar10:plain.bin --progress none)

"${run[@]}" -o grid >summary.txt 2>err.txt || fail "the grid: $(cat err.txt)"
[ "$(ls grid/cells | wc -l)" -eq 6 ] || fail "files of six cells: $(ls grid/cells)"
[ "$(wc -l <grid/results.csv)" -eq 7 ] || fail "rows of six cells: $(cat grid/results.csv)"
[ "$(awk -F, 'NR > 1 && /alone,2,/ {print $6, $9, $10}' grid/summary.csv)" = '2 0.25 0.125' ] || fail "summary: $(cat grid/summary.csv)"
grep -q 'colour statistics' summary.txt || fail "no baseline: $(cat summary.txt)"
svg=grid/greys-\&-more.svg
grep -q 'published' $svg && grep -q '</svg>' $svg || fail 'the plot'
! command -v xmllint >/dev/null || xmllint --noout $svg || fail 'the plot is no XML'

# the same cell by hand: the finished model's figure, and the median with the two before it lies between
"$aftermap" train cifar10:plain.bin@size=16@bands=1 --method supervised --preset lite3 --batch 4 --steps 12 --test-share 0.5 \
    --labels-per-class 2 --seed 2 -q -o hand.safetensors >/dev/null 2>err.txt || fail "train: $(cat err.txt)"
"$aftermap" evaluate hand.safetensors --truth cifar10:plain.bin@size=16@bands=1 --tta 1 --bootstrap 0 --json --progress none >hand.json
cell=$(echo grid/cells/*alone.labels-2.seed-2.json)
[ "$(jq .auroc.value hand.json)" = "$(jq '.rows[0].figures.auroc.value' "$cell")" ] || fail "not evaluate's figure: $(cat "$cell")"
[ "$(jq '.accuracy.value' hand.json)" = "$(jq '.rows[0].figures.accuracy.value' "$cell")" ] || fail 'not evaluate'\''s accuracy'
jq -e '[.rows[0].checkpoints[].step] | length >= 1 and (max < 12)' "$cell" >/dev/null || fail 'checkpoints before the last step'
jq -e '([.rows[0].checkpoints[].figures.accuracy.value] + [.rows[0].figures.accuracy.value]) | sort
       | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2] + .[length / 2 - 1]) / 2 end' "$cell" >median.txt
unquote grid/results.csv | awk -F, -v want="$(awk '{print 1 - $1}' median.txt)" '$3 == "alone" && $8 == 2 && $11 == 2 {
    found = 1; if ((d = $15 - want) < 0) d = -d; if (d > 1e-5) bad = 1 } END { exit bad || !found }' ||
    fail "the reported error is not the median: $(cat median.txt) $(cat grid/results.csv)"

# nothing runs twice; a lost cell alone does
"${run[@]}" -o grid >again.txt 2>err.txt
grep -q ' 0 of them to run' err.txt || fail "ran again: $(cat err.txt)"
cmp -s summary.txt again.txt || fail 'another summary of the same cells'
rm "$cell"
"${run[@]}" -o grid >/dev/null 2>err.txt
grep -q ' 1 of them to run' err.txt || fail "one cell: $(cat err.txt)"
[ "$(jq '.rows[0].figures.accuracy.value' "$cell")" = "$(jq '.accuracy.value' hand.json)" ] || fail 'the cell ran otherwise'

# shares of the work, without running
"${run[@]}" -o none --dry-run --shard 1/2 >a.txt 2>/dev/null
"${run[@]}" -o none --dry-run --shard 2/2 >b.txt 2>/dev/null
[ "$(sort a.txt b.txt | uniq | wc -l)" -eq 6 ] && [ "$(wc -l <a.txt)" -eq 3 ] || fail "shards: $(cat a.txt b.txt)"
[ ! -e none ] || fail 'a dry run wrote something'

# stopped in the middle of a cell and called again: the same figures as unbroken
describe 60 | sed 's/"seeds": \[1, 2\]/"seeds": [1]/' >greys.json
"${run[@]}" -o whole >/dev/null 2>err.txt || fail "whole: $(cat err.txt)"
"${run[@]}" -o broken >/dev/null 2>err.txt &
pid=$!
for _ in $(seq 200); do
    compgen -G 'broken/cells/*.safetensors' >/dev/null || [ "$(compgen -G 'broken/cells/*.json' | grep -vc part)" -lt 1 ] || break
    sleep 0.02
done
sleep 0.1
kill -INT $pid
status=0
wait $pid || status=$?
[ $status -eq 130 ] || [ $status -eq 0 ] || fail "interrupted, it ended with $status: $(cat err.txt)"
[ -s broken/results.csv ] || fail 'no table after an interruption'
"${run[@]}" -o broken >/dev/null 2>err.txt || fail "resumed: $(cat err.txt)"
drop() { unquote "$1" | sed -E 's/(,[^,]*){3}$//'; } # without seconds, version and digest
drop whole/results.csv >w.csv
drop broken/results.csv >b.csv
cmp -s w.csv b.csv || fail "resumed, the grid differs: $(diff w.csv b.csv)"
sed 's/"steps": 60/"steps": 61/' greys.json >other.json
expect 2 'other settings' "$aftermap" experiment other.json --data greys=cifar10:plain.bin -o whole

# what is wrong is said at once
sed 's/"mu"/"mew"/' greys.json >bad.json
expect 3 'no option --mew' "$aftermap" experiment bad.json --data greys=cifar10:plain.bin -o bad
sed 's/"seeds"/"sedes"/' greys.json >bad.json
expect 3 'unknown key "sedes"' "$aftermap" experiment bad.json --data greys=cifar10:plain.bin -o bad
sed 's/"steps": 60/"steps": -3/' greys.json >bad.json
expect 2 'whole number' "$aftermap" experiment bad.json --data greys=cifar10:plain.bin -o bad
sed 's/"error"/"errors"/' greys.json >bad.json
expect 3 'metric' "$aftermap" experiment bad.json --data greys=cifar10:plain.bin -o bad
head -c 200 greys.json >bad.json
expect 3 'bad.json:[0-9]+: is no JSON' "$aftermap" experiment bad.json --data greys=cifar10:plain.bin -o bad
expect 2 '--data greys=PATH: drawn images' "$aftermap" experiment greys.json -o bad
expect 2 'no data called .grays' "$aftermap" experiment greys.json --data greys=cifar10:plain.bin --data grays=x -o bad
[ ! -e bad ] || fail 'a bad file made a folder'
# data that cannot give that many labels cost their cells alone
sed 's/"labels": \[1, 2\]/"labels": [1, 40]/' greys.json >many.json
expect 3 '1 of 3 cells.*ask for fewer' "$aftermap" experiment many.json --data greys=cifar10:plain.bin -o many --progress none
[ "$(grep -c ^many many/results.csv)" -eq 2 ] || fail "the other cells: $(cat many/results.csv)"

# the files in samples are well formed, whatever their data
for f in "$TEST_SOURCE_DIR"/../samples/experiments/*.json; do
    mapfile -t names < <(jq -r '.data | keys[]' "$f")
    "$aftermap" experiment "$f" "${names[@]/%/=cifar10:x}" -o none --dry-run >/dev/null 2>&1 &&
        fail "$f: data without --data were taken"
    data=()
    for n in "${names[@]}"; do data+=(--data "$n=cifar10:x"); done
    "$aftermap" experiment "$f" "${data[@]}" -o none --dry-run >cells.txt 2>err.txt || fail "$f: $(cat err.txt)"
    [ "$(wc -l <cells.txt)" -ge 10 ] || fail "$f has few cells"
done

# a campaign: a row a round
[ -x "$build/aftermap-scene" ] && make_scene here 5 || finish
"$aftermap" tile --pre here/pre.tif --post here/post.tif --footprints here/footprints.gpkg --size-m 16 --label-field damage \
    --label-map unknown=none -q -o event >/dev/null || fail 'tile'
cat >asked.json <<EOF
{"title": "asked", "metric": "auroc", "bootstrap": 50, "data": {"town": {"is": "an event"}},
 "loop": {"method": "supervised", "preset": "lite3", "steps": 2, "batch": 4, "rounds": 1, "per-round": 6, "stop-change": 0, "tta": 1},
 "tasks": [{"name": "town", "target": "town"}],
 "arms": [{"name": "blind", "loop": {"strategy": "random"}}, {"name": "unsure", "loop": {"strategy": "diff2"}}]}
EOF
"$aftermap" experiment asked.json --data town=event -o asked --progress none --json >asked.out 2>err.txt || fail "asked: $(cat err.txt)"
jq -e '.summary | length >= 4 and all(.labels >= 6)' asked.out >/dev/null || fail "rounds: $(cat asked.out)"
[ "$(awk -F, 'NR > 1' asked/results.csv | wc -l)" -eq 4 ] || fail "rows: $(cat asked/results.csv)"
finish
