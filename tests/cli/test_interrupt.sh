#!/usr/bin/env bash
# Ctrl-C in the middle of each command: exit status 130, what was there before is intact, nothing half-written is left, and
# an interrupted training goes on to the same bits as an unbroken one.
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

make_scene scene
good=(--pre scene/pre.tif --post scene/post.tif --footprints scene/footprints.gpkg --label-field damage)
"$aftermap" tile "${good[@]}" -o event -q >/dev/null || fail 'tile'

train=(--method supervised --batch 4 --preset lite3 --steps 300)
stage=train
got=$(interrupt "$aftermap" train event "${train[@]}" -o cut.safetensors)
[ "$got" -eq 130 ] || fail "interrupted training ended with $got, not 130: $(tail -n 2 err.txt)"
[ -e cut.safetensors ] || fail 'interrupted training left no checkpoint'
"$aftermap" train event "${train[@]}" --resume -o cut.safetensors -q >/dev/null || fail 'resume'
"$aftermap" train event "${train[@]}" -o whole.safetensors -q >/dev/null || fail 'unbroken training'
digest() { "$aftermap" info "$1" --json | jq -r '.[0].digest'; }
[ "$(digest cut.safetensors)" = "$(digest whole.safetensors)" ] || fail 'the resumed run differs from the unbroken one'

sum() { find "$@" -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; }
before=$(sum event)

for delay in 0.02 0.1 0.3; do
    got=0
    timeout --preserve-status -s INT $delay "$aftermap" tile "${good[@]}" -o event --overwrite -q >/dev/null 2>&1 || got=$?
    case $got in 0 | 130) ;; *) fail "interrupted tile ended with $got" ;; esac
    "$aftermap" info event >/dev/null || fail "an interrupted tile (after $delay s) left an event that cannot be read"
    [ -z "$(find . -maxdepth 1 -name '*.tmp-*')" ] || fail "an interrupted tile left $(ls -d ./*.tmp-*)"
done
"$aftermap" assess event --model whole.safetensors -o map -q >/dev/null || fail 'assess'
before=$(sum map)
for delay in 0.02 0.05 0.2; do
    got=0
    timeout --preserve-status -s INT $delay "$aftermap" assess event --model whole.safetensors -o map --overwrite -q >/dev/null 2>&1 || got=$?
    case $got in 0 | 130) ;; *) fail "interrupted assess ended with $got" ;; esac
    [ "$got" -eq 0 ] || [ "$(sum map)" = "$before" ] || fail "an interrupted assess (after $delay s) changed the earlier map"
    before=$(sum map)
    [ -z "$(find . -maxdepth 2 -name '*.tmp-*')" ] || fail "an interrupted assess left $(find . -name '*.tmp-*')"
done
got=0
timeout --preserve-status -s INT 1 "$aftermap" serve map --port 0 >url.txt 2>/dev/null || got=$?
[ "$got" -eq 0 ] || fail "interrupted serve ended with $got"
grep -q '^http://127.0.0.1:[0-9]*/$' url.txt || fail 'serve did not print its address'
finish
