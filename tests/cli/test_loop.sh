#!/usr/bin/env bash
# `aftermap label next` and `aftermap loop`: what is asked, that blindly drawn answers are never trained on, that figures agree
# with `evaluate`, that an interrupted campaign ends as an unbroken one, and why it stops.
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"
[ -x "$build/aftermap-scene" ] || { echo 'no aftermap-scene: nothing to ask about'; exit 77; }
command -v jq >/dev/null || { echo 'no jq'; exit 77; }
command -v ogr2ogr >/dev/null || { echo 'no ogr2ogr'; exit 77; }

make_scene scene || { echo 'the scene maker does not run'; exit 77; }
"$aftermap" tile --pre scene/pre.tif --post scene/post.tif --footprints scene/footprints.gpkg --label-field damage \
    --label-map unknown=none --size-m 16 -o event -q >/dev/null || fail 'tile'
"$aftermap" tile --pre scene/pre.tif --post scene/post.tif --footprints scene/footprints.gpkg --size-m 16 -o ungraded -q \
    >/dev/null || fail 'tile without labels'
# ogr2ogr leaves the key out of a CSV: rows stand in fid order
for e in event ungraded; do
    ogr2ogr -f CSV t.csv $e/chips.gpkg buildings >/dev/null 2>&1
    awk 'NR==1{print "fid," $0;next}{print NR-1 "," $0}' t.csv >$e.csv && rm t.csv
done
column() { # FILE NAME: the values of a column (no field here holds a comma)
    awk -F, -v name="$2" 'NR==1{for(i=1;i<=NF;i++){v=$i;gsub(/"/,"",v);if(v==name)k=i};next}{gsub(/"/,"",$k);print $k}' "$1"
}
in_split() { # EVENT SPLIT: fids of a split that have a chip
    paste -d, <(column "$1.csv" fid) <(column "$1.csv" split) <(column "$1.csv" page) |
        awk -F, -v s="$2" '$2==s && $3>=0 {print $1}' | sort
}
in_split event train >train.fids
in_split ungraded train >open.fids

# ---- label next

"$aftermap" label next ungraded --n 20 -q >first.csv || fail 'label next without a model'
head -n 1 first.csv | says -x 'bldg_id,fid,score,why,purpose,lon,lat' || fail "header: $(head -n 1 first.csv)"
[ "$(column first.csv fid | sort -u | wc -l)" -eq 20 ] || fail 'not 20 different buildings'
[ -z "$(column first.csv fid | sort | comm -23 - open.fids)" ] || fail 'asked outside the training split'
[ "$(column first.csv purpose | grep -cx validate)" -eq 4 ] || fail 'not a fifth of the picks is blind'
[ "$(column first.csv score | grep -c .)" -eq 0 ] || fail 'scores without a model'
"$aftermap" label next ungraded --n 20 -q --json >first.json || fail 'label next --json'
[ "$(jq -r '.[].fid' first.json)" = "$(column first.csv fid)" ] || fail 'JSON and CSV differ'
jq -e 'all(.[]; .score == null and (.purpose == "train" or .purpose == "validate") and (.lon|type) == "number")' first.json \
    >/dev/null || fail 'fields of the JSON'
for p in train validate; do
    [ "$("$aftermap" label next ungraded --n 10 --purpose $p -q --json | jq -r '[.[].purpose]|unique|join(",")')" = $p ] ||
        fail "--purpose $p gives another one"
done
expect 0 'only [0-9]+ buildings are left' "$aftermap" label next ungraded --n 5000

"$aftermap" train event --method supervised --steps 12 --batch 8 --labels-per-class 6 --preset lite3 -o m.safetensors -q \
    >/dev/null || fail 'train'
expect 3 'no building left to ask about.*--known' "$aftermap" label next event --model m.safetensors
expect 2 'is no strategy' "$aftermap" label next ungraded --model m.safetensors --strategy surest
expect 2 'needs an uncertainty' "$aftermap" label next ungraded --model m.safetensors --strategy std+density
expect 2 'asks a model' "$aftermap" label next ungraded --strategy max
expect 2 "label knows 'next'" "$aftermap" label all event
expect 2 'say what to do and where' "$aftermap" label
expect 6 'is no model of this program' "$aftermap" label next ungraded --model first.csv
for s in max max.aug diff2+kmeans entropy+density max+outlier random diff2.aug+kmeans; do
    "$aftermap" label next event --known --model m.safetensors --n 15 --strategy "$s" -q >"ask.$s.csv" || fail "strategy $s"
    [ "$(column "ask.$s.csv" fid | sort -u | wc -l)" -eq 15 ] || fail "$s: not 15 different buildings"
    [ -z "$(column "ask.$s.csv" fid | sort | comm -23 - train.fids)" ] || fail "$s asked outside the training split"
done
column ask.max.csv score | grep . | sort -c -g || fail 'max does not ask the least sure first'
cmp -s ask.max.csv ask.max.aug.csv && fail '.aug changes nothing'
"$aftermap" label next event --known --model m.safetensors --n 15 --strategy max -q --threads 1 | cmp -s - ask.max.csv ||
    fail 'the same question gave another answer'
"$aftermap" label next event --known --model m.safetensors --n 15 --strategy random -q --seed 2 | cmp -s - ask.random.csv &&
    fail 'another seed gave the same random picks'
# the 12 buildings the model has learnt from are never asked about again
n=$("$aftermap" label next event --known --model m.safetensors --n 5000 --strategy max -q | tail -n +2 | wc -l)
[ "$n" -eq $(($(wc -l <train.fids) - 12)) ] || fail "$n buildings are left to ask about, not the training split less 12"

# ---- loop

play=(--oracle labels --method supervised --preset lite3 --batch 4 --steps 10 --per-round 7 --tta 1 --stop-change 0)
"$aftermap" loop event "${play[@]}" --rounds 3 -o whole -q >whole.txt || fail 'loop'
[ "$(column whole/curve.csv labels | tr '\n' ' ')" = '7 14 21 28 ' ] || fail "labels: $(column whole/curve.csv labels)"
[ "$(column whole/questions.csv fid | sort -u | wc -l)" -eq 28 ] || fail 'a building was asked about twice'
[ -z "$(column whole/questions.csv fid | sort | comm -23 - train.fids)" ] || fail 'the loop asked outside the training split'
[ "$(column whole/questions.csv purpose | grep -cx validate)" -eq 3 ] || fail 'one of seven a round is blind'
paste -d, <(column whole/questions.csv fid) <(column whole/questions.csv answer) | sort >got
paste -d, <(column event.csv fid) <(column event.csv dmg_class) | sort | join -t, - <(cut -d, -f1 got) >want
cmp -s got want || fail 'answers are not the grades of the event'
ls whole/round-*.safetensors | tr '\n' ' ' | says -x 'whole/round-02.safetensors whole/round-03.safetensors ' ||
    fail 'not the last two models are kept'

# the model's own list of training labels: the questions of purpose train, and no other
python=$(command -v python3 || true)
labeled_ids() {
    $python - "$1" <<'PY'
import json, struct, sys
b = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", b[:8])[0]
t = json.loads(b[8:8 + n])["state.labeled_ids"]
lo, hi = (8 + n + o for o in t["data_offsets"])
print(*struct.unpack("<%dq" % ((hi - lo) // 8), b[lo:hi]), sep="\n")
PY
}
if [ -n "$python" ]; then
    labeled_ids whole/round-03.safetensors >ids
    awk -F, 'NR>1 && $6=="train"{print $3}' whole/questions.csv | sort | cmp -s - <(sort ids) ||
        fail 'the model was trained on other answers than those for training'
    $python -c 'import sys,xml.dom.minidom as x; x.parse(sys.argv[1])' whole/curve.svg || fail 'curve.svg is no XML'
fi

# the same table in the hands of train: its grades in the place of the event's, and what judges does not teach
"$aftermap" train event --labels whole/questions.csv:answer --method supervised --preset lite3 --batch 4 --steps 1 -q \
    -o taught.safetensors --json >taught.json 2>err.txt || fail "train --labels: $(cat err.txt)"
[ "$(jq .labeled taught.json)" -eq 25 ] || fail "not the 25 answers for training: $(cat taught.json)"
if [ -n "$python" ]; then
    labeled_ids taught.safetensors | sort | cmp -s - <(sort ids) || fail 'train learnt from other buildings than those for training'
fi
sed 's/,validate,/,judge,/' whole/questions.csv >odd.csv
expect 3 'train or validate, not .judge' "$aftermap" train event --labels odd.csv:answer --steps 1 -o odd.safetensors
sed 's/,train,/,validate,/' whole/questions.csv >blind.csv
expect 3 'none may be trained on' "$aftermap" train event --labels blind.csv:answer --steps 1 -o odd.safetensors
expect 2 'belongs to events' "$aftermap" train cifar10:x --labels whole/questions.csv:answer --steps 1 -o odd.safetensors
grep -q '<svg ' whole/curve.svg || fail 'no curve.svg'

# evaluate, which shares no line with the loop's bookkeeping, finds the same figures
"$aftermap" evaluate whole/round-03.safetensors --truth event --tta 1 --json -q >evaluate.json
for f in auroc auprc f1 ece; do
    awk -v a="$(jq ".$f.value" evaluate.json)" -v b="$(column whole/curve.csv $f | tail -n 1)" \
        'BEGIN{exit !(a-b<1e-5 && b-a<1e-5)}' || fail "$f differs from what evaluate says"
done
awk -v a="$(jq .trivial.auroc.value evaluate.json)" -v b="$(column whole/curve.csv trivial_auroc | tail -n 1)" \
    'BEGIN{exit !(a-b<1e-5 && b-a<1e-5)}' || fail 'the trivial AUROC differs from what evaluate says'

# resume: fewer rounds first, then the rest; and once broken off in the middle of a round
same() { # DIR: tables like whole's, but for the seconds in the last column
    cmp -s whole/questions.csv "$1/questions.csv" || fail "$1: other questions than in the unbroken campaign"
    diff -q <(sed 's/,[^,]*$//' whole/curve.csv) <(sed 's/,[^,]*$//' "$1/curve.csv") >/dev/null ||
        fail "$1: another curve than the unbroken campaign's"
}
"$aftermap" loop event "${play[@]}" --rounds 1 -o parts -q >/dev/null || fail 'one round'
expect 2 'parts/loop.json exists already.*--resume' "$aftermap" loop event "${play[@]}" --rounds 3 -o parts
expect 2 'another strategy' "$aftermap" loop event "${play[@]}" --rounds 3 --strategy random --resume -o parts
"$aftermap" loop event "${play[@]}" --rounds 3 --resume -o parts -q >/dev/null || fail 'resume'
same parts
got=0
"$aftermap" loop event "${play[@]}" --rounds 3 -o broken --progress=json >out.txt 2>err.txt &
pid=$!
for _ in $(seq 600); do
    [ -e broken/round-01.safetensors ] || grep -q '"stage":"ask"' err.txt && break
    kill -0 $pid 2>/dev/null || break
    sleep 0.01
done
kill -INT $pid 2>/dev/null || true
wait $pid || got=$?
if [ "$got" -eq 0 ]; then
    echo 'note: the campaign was over before it could be interrupted'
else
    [ "$got" -eq 130 ] || fail "interrupted loop ended with $got, not 130: $(tail -n 2 err.txt)"
    "$aftermap" loop event "${play[@]}" --rounds 3 --resume -o broken -q >/dev/null || fail 'resume after an interruption'
    same broken
fi

# why it stops
"$aftermap" loop event "${play[@]}" --stop-change 1 --rounds 9 -o quiet -q --json >quiet.json || fail 'loop --stop-change'
jq -r .stopped quiet.json | says '^round 3: fewer than 100 % of the predictions changed in each of the last 3 rounds' ||
    fail "stopped: $(jq -r .stopped quiet.json)"
"$aftermap" loop event "${play[@]}" --per-round 60 --seeds 10 --rounds 9 -o all -q --json >all.json || fail 'ask all'
jq -r .stopped all.json | says 'no building left to ask about' || fail "stopped: $(jq -r .stopped all.json)"
[ "$(column all/questions.csv fid | sort | comm -3 - train.fids | wc -l)" -eq 0 ] || fail 'not everybody was asked'
jq -r .stopped whole/loop.json | says -x 'round 3: all rounds are played' || fail "stopped: $(jq -r .stopped whole/loop.json)"

# an oracle in a file: the same grades give the same campaign
paste -d, <(column event.csv bldg_id) <(column event.csv dmg_level) | sed '1i bldg_id,seen' >survey.csv
"$aftermap" loop event "${play[@]}" --oracle survey.csv:seen --rounds 3 -o survey -q >/dev/null || fail 'loop with a file'
same survey
expect 3 'no column colour' "$aftermap" loop event "${play[@]}" --oracle survey.csv:colour -o x
expect 2 'no table of answers' "$aftermap" loop event "${play[@]}" --oracle survey.csv -o x
sed '2s/,.*/,ruined/' survey.csv >bad.csv
expect 3 "'ruined' of building .* is no grade" "$aftermap" loop event "${play[@]}" --oracle bad.csv:seen -o x
expect 3 'needs grades in both' "$aftermap" loop ungraded "${play[@]}" -o x
expect 2 'say who answers' "$aftermap" loop event -o x
expect 0 'dry run: [0-9]+ buildings' "$aftermap" loop event "${play[@]}" --dry-run -o dry
[ ! -e dry ] && [ ! -e x ] || fail 'something was written by a run that must not write'
finish
