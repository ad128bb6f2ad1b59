#!/usr/bin/env bash
# `aftermap audit`, `distil` and `lab extract`: copies of a model from its answers, small models from large ones, weights from
# answers; what is refused and how it is said.
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"
command -v jq >/dev/null || { echo 'no jq'; exit 77; }

make_greys 12
quiet=(-q --progress none)
"$aftermap" train "$data" --method supervised --preset wrn-10-2 --batch 8 --steps 30 "${quiet[@]}" -o teacher.safetensors \
    >/dev/null 2>err.txt || fail "train: $(cat err.txt)"
digest=$("$aftermap" info teacher.safetensors --json | jq -r '.[0].metadata["aftermap.sha256"]')

# --- distil
"$aftermap" distil teacher.safetensors "$data" --steps 30 --batch 8 "${quiet[@]}" --json -o small.safetensors >distil.json \
    2>err.txt || fail "distil: $(cat err.txt)"
jq -e '.answers == 96 and .tested == 24 and .agreement >= 0.9 and .student.weights < .teacher.weights * 0.6 and
    .student.auroc > 0.9 and .teacher.auroc > 0.9 and ([.classes[].teacher_says] | add) == 24' distil.json >/dev/null ||
    fail "distil says $(cat distil.json)"
"$aftermap" info small.safetensors --json >info.json
[ "$(jq -r '.[0].metadata["teacher.digest"]' info.json)" = "$digest" ] || fail 'the student does not know its teacher'
"$aftermap" evaluate small.safetensors --truth "$data" --json "${quiet[@]}" >evaluate.json 2>err.txt || fail "evaluate: $(cat err.txt)"
jq -e --slurpfile d distil.json '.accuracy.value == $d[0].student.accuracy' evaluate.json >/dev/null ||
    fail 'evaluate finds another accuracy than distil'
"$aftermap" distil teacher.safetensors "$data" --steps 30 --batch 8 "${quiet[@]}" --json -o small.safetensors --resume >again.json ||
    fail 'distil --resume of a finished run'
[ "$(jq .agreement distil.json)" = "$(jq .agreement again.json)" ] || fail 'a resumed run says something else'
expect 2 'exists already' "$aftermap" distil teacher.safetensors "$data" --steps 2 -o small.safetensors
expect 3 'multiple of 8 pixels' "$aftermap" distil teacher.safetensors "$data" --preset lite --steps 2 -o new.safetensors
expect 6 'trained on images of 12 x 12' "$aftermap" distil teacher.safetensors "$data@size=16" --steps 2 -o new.safetensors
[ ! -e new.safetensors ] || fail 'a refused distillation left a file'

# --- audit
export TMPDIR=$scratch
audit() { "$aftermap" audit teacher.safetensors --images "$data" --method supervised --preset lite3 --steps 12 --batch 8 "$@"; }
audit --queries 10,40 --answers full,2,label "${quiet[@]}" --json >audit.json 2>err.txt || fail "audit: $(cat err.txt)"
jq -e '(.copies | length) == 6 and .asked == 150 and .tested == 24 and (.settings | length) == 6 and
    (.copies[] | .fidelity >= 0 and .fidelity <= 1) and .settings[0].lowers_fidelity_by == 0 and
    .fidelity_of_one_label >= 0.5 and .settings[3].minutes_at_rate == 40 / 60' audit.json >/dev/null || fail "audit: $(cat audit.json)"
audit --queries 40 "${quiet[@]}" >text.txt 2>err.txt || fail "audit as text: $(cat err.txt)"
grep -q '3 decimals instead of' text.txt || fail "audit as text: $(cat text.txt)"
grep -q 'does not apply' text.txt || fail 'audit does not speak of direct recovery'
expect 5 'query budget is exhausted: 5 of 15 queries are left, 10 more' audit --queries 10 --max-queries 15
expect 3 'training split has 96 images; ask for fewer' audit --queries 97
expect 2 'full, label or decimals' audit --answers sum
expect 6 'is no model' "$aftermap" audit images.idx --images "$data"
expect 2 'is an address; audit asks a model file' "$aftermap" audit http://127.0.0.1:1/models/1 --images "$data"
got=0
timeout --preserve-status -s INT 3 "$aftermap" audit teacher.safetensors --images "$data" --queries 20 --budget 10m -q 2>err.txt >out.txt || got=$?
[ "$got" -eq 130 ] || fail "an interrupted audit ended with $got: $(cat err.txt)"
left=$(find "$scratch" -name 'aftermap-audit*' | wc -l)
[ "$left" -eq 0 ] || fail 'an audit left a copy behind'

# --- lab extract
"$aftermap" lab extract random:10-8-2 --answers logits:3,logits -o copy.json --json "${quiet[@]}" >extract.json 2>err.txt ||
    fail "lab extract: $(cat err.txt)"
jq -e '.parameters == 106 and (.rows[1] | .extracted and .units == 8 and .signed and .max_difference < 1e-6 and
    .agreement == 1 and .queries < 3180) and (.rows[0] | (.extracted | not) or .max_difference > 1e-3)' extract.json >/dev/null ||
    fail "lab extract: $(cat extract.json)"
"$aftermap" lab extract copy.json --json "${quiet[@]}" >copy-of-copy.json || fail 'the copy is no network'
jq -e '.rows[0] | .units == 8 and .max_difference < 1e-6' copy-of-copy.json >/dev/null || fail 'a copy of the copy differs'
expect 5 'budget of 50 queries is spent' "$aftermap" lab extract random:10-8-2 --queries 50
echo '{"activation": "tanh", "a0": [[1]], "b0": [0], "a1": [[1]], "b1": [0]}' >tanh.json
expect 3 '"activation" is "tanh": only networks' "$aftermap" lab extract tanh.json
expect 2 'random:INPUTS-UNITS-OUTPUTS' "$aftermap" lab extract random:10-8

for command in audit distil 'lab extract'; do
    # shellcheck disable=SC2086
    "$aftermap" help $command | tr -s ' \n' ' ' | says 'Jagielski' || fail "help $command names no source"
done
finish
