#!/usr/bin/env bash
# `aftermap train`: every method on an event, learning from another event, what is refused and how it is said.
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"
[ -x "$build/aftermap-scene" ] || { echo 'no aftermap-scene: nothing to train on'; exit 77; }
command -v jq >/dev/null || { echo 'no jq'; exit 77; }

make_scene here 5 || { echo 'the scene maker does not run'; exit 77; }
make_scene there 6 || fail 'a second scene'
cut_event() { # SCENE EVENT [OPTION...]
    "$aftermap" tile --pre "$1/pre.tif" --post "$1/post.tif" --footprints "$1/footprints.gpkg" -q -o "${@:2}" >/dev/null
}
graded=(--label-field damage --label-map unknown=none)
cut_event here event --size-m 16 "${graded[@]}" || fail 'tile'
cut_event here open --size-m 16 || fail 'tile without labels'
cut_event there past --size-m 16 "${graded[@]}" || fail 'tile the source'
cut_event there large --size-m 32 "${graded[@]}" || fail 'tile a source of another size'

quick=(--preset lite3 --batch 4 -q --progress none)
for method in supervised pseudolabel pimodel meanteacher vat uda mixmatch remixmatch fixmatch adamatch; do
    "$aftermap" train event --method $method --labels-per-class 3 --steps 2 "${quick[@]}" -o $method.safetensors \
        >/dev/null 2>err.txt || fail "$method: $(cat err.txt)"
    [ "$("$aftermap" info $method.safetensors --json | jq -r '.[0].metadata["train.config"] | fromjson | .method')" = $method ] ||
        fail "the model of $method does not say so"
    "$aftermap" help train | tr -s ' \n' ' ' | says -w $method || fail "help does not name $method"
done

# a map of a place without a single label, from the labels of another; the same with a few of its own
"$aftermap" train open --method adamatch --source past --steps 3 "${quick[@]}" -o blind.safetensors --json >uda.json ||
    fail 'adamatch without target labels'
jq -e '.labeled == 0 and .source > 10 and .unlabeled > 10' uda.json >/dev/null || fail "UDA: $(cat uda.json)"
[ "$("$aftermap" info blind.safetensors --json | jq -r '.[0].metadata.sources')" = past ] || fail 'the source is not remembered'
"$aftermap" assess open --model blind.safetensors -q -o map >/dev/null 2>err.txt || fail "assess: $(cat err.txt)"
"$aftermap" train event --method adamatch --source past --labels-per-class 3 --steps 3 "${quick[@]}" -o ssda.safetensors \
    --json >ssda.json || fail 'adamatch with target labels'
jq -e '.labeled == 6 and .source > 10' ssda.json >/dev/null || fail "SSDA: $(cat ssda.json)"
"$aftermap" train event --method supervised --source past --labels-per-class 0 --steps 2 "${quick[@]}" -o only.safetensors \
    --json >only.json || fail 'source only'
jq -e '.labeled == 0 and .source > 10' only.json >/dev/null || fail "source only: $(cat only.json)"
# resumed, a finished run says the same; with another source it is another run
"$aftermap" train event --method adamatch --source past --labels-per-class 3 --steps 3 "${quick[@]}" -o ssda.safetensors \
    --resume --json | jq -e '.steps == 3' >/dev/null || fail 'resume with a source'
expect 6 'other data' "$aftermap" train event --method adamatch --labels-per-class 3 --steps 3 "${quick[@]}" \
    -o ssda.safetensors --resume

expect 3 'cut like the target.*px' "$aftermap" train event --source large --method adamatch --steps 2 -o x.safetensors
expect 3 'no-such-event' "$aftermap" train event --source no-such-event --steps 2 -o x.safetensors
expect 2 'without --source' "$aftermap" train event --labels-per-class 0 --steps 2 -o x.safetensors
expect 2 'takes no n_guesses' "$aftermap" train event --method fixmatch --guesses 2 --steps 2 -o x.safetensors
expect 2 'mu must be 1' "$aftermap" train event --method mixmatch --mu 3 --steps 2 -o x.safetensors
expect 2 'parts of adamatch' "$aftermap" train event --without interpolation --steps 2 -o x.safetensors
expect 2 'takes no weak_only' "$aftermap" train event --method uda --without strong --steps 2 -o x.safetensors
expect 2 'self, ema or ema-eval' "$aftermap" train event --teacher mother --steps 2 -o x.safetensors
expect 2 'rand or cta' "$aftermap" train event --augment auto --steps 2 -o x.safetensors
expect 2 'off, labels, sample' "$aftermap" train event --method adamatch --align up --steps 2 -o x.safetensors
expect 2 'mixmaster.*choose one of.*adamatch' "$aftermap" train event --method mixmaster --steps 2 -o x.safetensors
[ ! -e x.safetensors ] || fail 'a refused run wrote a model'

# settings that change a run: learnt augmentation, a prior, ablations
digest() { "$aftermap" info "$1" --json | jq -r '.[0].digest'; }
for setting in '--augment cta' '--align 0.1' '--without interpolation' '--without relative-tau' '--ramp 0'; do
    # shellcheck disable=SC2086
    "$aftermap" train event --method adamatch --source past --labels-per-class 3 --steps 3 --tau 0.5 $setting "${quick[@]}" \
        -o set.safetensors --overwrite >/dev/null 2>err.txt || fail "$setting: $(cat err.txt)"
    digest set.safetensors >>digests
done
"$aftermap" train event --method adamatch --source past --labels-per-class 3 --steps 3 --tau 0.5 "${quick[@]}" -o set.safetensors \
    --overwrite >/dev/null && digest set.safetensors >>digests
[ "$(sort -u digests | wc -l)" -ge 5 ] || fail "settings without effect: $(cat digests)"
rm digests
for setting in '' '--augment cta' '--align labels' '--align sample' '--teacher ema' '--teacher ema-eval' '--without strong' '--no-cutout'; do
    # shellcheck disable=SC2086
    "$aftermap" train event --labels-per-class 3 --steps 8 --tau 0.5 $setting "${quick[@]}" \
        -o set.safetensors --overwrite >/dev/null 2>err.txt || fail "$setting: $(cat err.txt)"
    digest set.safetensors >>digests
done
[ "$(sort -u digests | wc -l)" -ge 7 ] || fail "settings without effect: $(cat digests)"
finish
