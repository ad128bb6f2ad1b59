#!/usr/bin/env bash
# `aftermap lab pate` and the group `lab`: a study on plain images, stopped and gone on with; what is published and what is
# not; the same on events; what is refused and how it is said.
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"
command -v jq >/dev/null || { echo 'no jq'; exit 77; }

make_greys 8
quick=(--preset lite3 --teachers 5 --teacher-steps 20 --teacher-batch 4 --steps 4 --batch 2 --public-share 0.5 --delta 1e-3
    --threshold 3 --sigma-threshold 1 --sigma 0.8 --progress none)
pate() { "$aftermap" lab pate "$data" "${quick[@]}" "$@"; }

# help, the group, completions
"$aftermap" lab --help | says 'lab pate' || fail 'lab --help does not list pate'
"$aftermap" help lab | says 'lab pate' || fail 'help lab does not list pate'
"$aftermap" lab pate --help | tr -s ' \n' ' ' | says 'Papernot et al. 2018' || fail 'lab pate --help names no source'
"$aftermap" help lab pate >help.txt && grep -q -- '--max-epsilon' help.txt || fail 'help lab pate'
expect 2 "no command 'lab patch'" "$aftermap" lab patch
expect 2 'name a command of the group lab' "$aftermap" lab
"$aftermap" help --man | says -F 'sigma-threshold' || fail 'the man page lacks --sigma-threshold'
"$aftermap" completion bash >bash.txt && bash -n bash.txt || fail 'bash completion does not parse'
complete_in_bash() { bash -c 'source ./bash.txt; COMP_WORDS=('"$1"'); COMP_CWORD='"$2"'; _aftermap; echo "${COMPREPLY[*]}"' 2>/dev/null; }
[ "$(complete_in_bash 'aftermap lab p' 2)" = pate ] || fail 'bash does not complete lab p'
[ "$(complete_in_bash 'aftermap lab pate --max-e' 3)" = --max-epsilon= ] || fail 'bash does not complete lab pate --max-e'
for shell in zsh fish; do
    "$aftermap" completion $shell >completion.txt && grep -q max-epsilon completion.txt || fail "$shell completion lacks --max-epsilon"
done

# a dry run says the price and writes nothing
pate --queries 10,30 --dry-run --json -o none >plan.json 2>err.txt || fail "dry run: $(cat err.txt)"
jq -e '.plan | length == 2 and .[0].epsilon_at_most < .[1].epsilon_at_most' plan.json >/dev/null || fail "plan: $(cat plan.json)"
[ ! -e none ] || fail 'a dry run wrote something'

pate --queries 10,30 --student mixmatch,supervised --seeded-noise --json -o whole >whole.json 2>err.txt || fail "whole: $(cat err.txt)"
grep -q 'data-independent' err.txt || fail "it does not say which epsilon it publishes: $(cat err.txt)"
grep -q 'nothing is protected' err.txt || fail "it does not say that seeded noise protects nothing: $(cat err.txt)"
grep -q '5 teachers are few' err.txt || fail "it does not say that 5 teachers are few: $(cat err.txt)"
jq -e '.students | length == 4 and all(.epsilon > 0 and .accuracy.value >= 0)' whole.json >/dev/null || fail "results: $(cat whole.json)"
jq -e '.students | map(select(.method == "mixmatch")) | .[0].epsilon < .[1].epsilon' whole.json >/dev/null || fail 'more queries are not dearer'
[ "$(wc -l <whole/curve.csv)" -eq 5 ] && grep -q '</svg>' whole/curve.svg || fail 'the curve'

# the ledger in the file: counts of answers.csv, epsilon by hand (Gaussians, the tighter conversion)
model=whole/student-mixmatch-q00030.safetensors
"$aftermap" info $model --json | jq '.[0].metadata.privacy | fromjson' >ledger.json || fail 'no ledger in the student'
answered=$(awk -F, 'NR > 1 && $1 < 30 && $3 >= 0' whole/answers.csv | wc -l)
jq -e --argjson n "$answered" '.queries_asked == 30 and .queries_answered == $n and .kind == "data-independent" and .delta == 0.001' \
    ledger.json >/dev/null || fail "ledger: $(head -c 600 ledger.json), $answered answered"
jq -e --argjson n "$answered" '
    def eps(a): a * (30 / 2 + $n / 0.64) + ((1 - 1 / a) | log) - ((0.001 * a) | log) / (a - 1);
    ([eps(1.25), eps(1.5), eps(1.75), eps(2), eps(2.5), eps(3)] | min) as $want
    | (.epsilon - $want) | fabs < 1e-6' ledger.json >/dev/null || fail "epsilon: $(jq .epsilon ledger.json)"
jq -e 'has("data_dependent") | not' ledger.json >/dev/null || fail 'the private epsilon is in the student'
jq -e 'has("data_dependent") | not' whole/ledger.json >/dev/null || fail 'the private epsilon is in the public ledger'
jq -e '.data_dependent.epsilon <= .epsilon' whole/private/ledger.json >/dev/null || fail 'the private ledger'
[ "$("$aftermap" info $model --json | jq '.[0].labels_used')" = "$answered" ] || fail 'unanswered queries became labels'
[ "$(stat -c %a whole/private)" = 700 ] || fail 'private is open to others'
ls whole/private/teacher-0000[0-4].safetensors >/dev/null || fail 'teachers are no files'
grep -c "$(sha256sum images.idx | cut -c1-64)" $model >/dev/null && fail 'the digest of private bytes is in the student'

# stopped and called again it ends in the same student
resume=(--queries 10,30 --student mixmatch --seeded-noise --teacher-steps 20 -o broken)
for pause in 0.05 0.2 0.4; do
    pate "${resume[@]}" >/dev/null 2>err.txt &
    pid=$!
    sleep $pause
    kill -INT $pid 2>/dev/null || true
    status=0
    wait $pid || status=$?
    [ $status -eq 130 ] || [ $status -eq 0 ] || fail "interrupted, it ended with $status: $(cat err.txt)"
done
pate "${resume[@]}" >/dev/null 2>err.txt || fail "resumed: $(cat err.txt)"
digest() { "$aftermap" info "$1" --json | jq -r '.[0].digest'; }
[ "$(digest broken/student-mixmatch-q00030.safetensors)" = "$(digest $model)" ] || fail 'resumed, the student differs'
cmp -s broken/answers.csv whole/answers.csv || fail 'resumed, the answers differ'

# with a secret key: other answers elsewhere, the same ones here; told to, it publishes the other epsilon, and says so
pate --queries 30 -o secret >/dev/null 2>err.txt || fail "secret: $(cat err.txt)"
cp secret/answers.csv first.csv
pate --queries 30 --data-dependent --overwrite -o secret >/dev/null 2>err.txt || fail "secret again: $(cat err.txt)"
cmp -s secret/answers.csv first.csv || fail 'another call drew other noise'
jq -e '.data_dependent.note | test("private")' secret/ledger.json >/dev/null || fail 'the data-dependent epsilon is missing'
grep -q 'itself private' err.txt || fail "it does not say that it is private: $(cat err.txt)"

# what is refused
expect 2 'another mechanism' "$aftermap" lab pate $data "${quick[@]}" --queries 30 --sigma 0.9 -o secret
expect 2 'other data or settings' "$aftermap" lab pate $data "${quick[@]}" --queries 30 --teachers 6 --seed 1 -o secret
expect 2 'budget of epsilon 20 is spent after [0-9]+ of 30' "$aftermap" lab pate $data "${quick[@]}" --queries 30 --max-epsilon 20 -o secret
expect 3 'fewer than the 100 teachers' "$aftermap" lab pate $data --public-share 0.5 --queries 10 -o no
expect 2 'too few for noise' "$aftermap" lab pate $data "${quick[@]}" --sigma 40 -o no
expect 2 'out of reach' "$aftermap" lab pate $data "${quick[@]}" --threshold 90 -o no
expect 3 'public items for the student; 500 queries' "$aftermap" lab pate $data "${quick[@]}" --queries 500 -o no
expect 2 'both excluded' "$aftermap" lab pate $data --delta 1 -o no
expect 2 'both excluded' "$aftermap" lab pate $data --delta 0 -o no
expect 2 'rising numbers' "$aftermap" lab pate $data --queries 30,10 -o no
expect 2 'lnmax, gnmax or' "$aftermap" lab pate $data --mechanism max -o no
expect 2 'whole number from 2' "$aftermap" lab pate $data --teachers 1 -o no
expect 2 'mixmaster' "$aftermap" lab pate $data "${quick[@]}" --queries 10 --student mixmaster -o no
expect 2 'both be events' "$aftermap" lab pate $data --public event -o no
[ ! -e no ] || fail 'a refused study left a folder'

# the other mechanisms
for mechanism in lnmax gnmax; do
    pate --mechanism $mechanism --queries 12 --student supervised -o $mechanism --json >out.json 2>err.txt || fail "$mechanism: $(cat err.txt)"
    jq -e '.students[0] | .answered == 12' out.json >/dev/null || fail "$mechanism does not answer everything: $(cat out.json)"
done

# events: private grades of one place, a student for another, by blocks; the student makes a map
if [ -x "$build/aftermap-scene" ] && make_scene past 5 && make_scene now 6; then
    for place in past now; do
        "$aftermap" tile --pre $place/pre.tif --post $place/post.tif --footprints $place/footprints.gpkg --size-m 16 \
            --label-field damage --label-map unknown=none -q -o $place-event >/dev/null || fail "tile $place"
    done
    "$aftermap" lab pate past-event --public now-event --unit block --teachers 3 --teacher-steps 3 --teacher-batch 4 --steps 2 --batch 4 \
        --mechanism gnmax --sigma 2 --seeded-noise --queries 24 --json --progress none -o town >town.json 2>err.txt || fail "events: $(cat err.txt)"
    student=$(jq -r '.students[0].model' town.json)
    [ "$("$aftermap" info "$student" --json | jq -r '.[0].metadata.privacy | fromjson | .protects')" = 'one block of private items, exchanged' ] ||
        fail 'the ledger does not say what is protected'
    "$aftermap" assess now-event --model "$student" -q -o map >/dev/null 2>err.txt || fail "assess: $(cat err.txt)"
fi
finish
