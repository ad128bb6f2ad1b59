#!/usr/bin/env bash
# The command line itself: help, man page, completions, precedence of defaults, wrong use.
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

"$aftermap" --version | says -E '^aftermap [0-9]+\.[0-9]+\.[0-9]+$' || fail 'no version'
for command in tile train assess evaluate serve info help completion; do
    "$aftermap" help $command >help.txt || fail "help $command"
    # argp adds its own two lines to --help
    "$aftermap" $command --help | sed '/-?, --help/,/--usage/d' | diff -B - help.txt >diff.txt ||
        fail "$command --help differs from help $command: $(head -n 5 diff.txt)"
done
expect 2 "no command 'tyle'" "$aftermap" tyle
expect 2 'whole number' "$aftermap" train x --steps many -o y
expect 2 'exclude each other' "$aftermap" train x --steps 5 --budget 5m -o y
expect 2 'time such as' "$aftermap" train x --budget 5x -o y
expect 2 '--pre and --post' "$aftermap" tile -o y
expect 2 'takes 1 or 8' "$aftermap" assess x --model y --tta 3 -o z
expect 2 'takes fp32 or int8' "$aftermap" assess x --model y --precision fp16 -o z
expect 2 'writes no files' "$aftermap" evaluate x --truth y --dry-run

# defaults: command line > environment > configuration file
mkdir -p config/aftermap
{
    printf '\0\0\x08\x03\0\0\0\x18\0\0\0\x08\0\0\0\x08' # IDX: 24 images of 8 x 8
    head -c $((24 * 64)) /dev/urandom
} >images.idx
{
    printf '\0\0\x08\x01\0\0\0\x18'
    for _ in $(seq 12); do printf '\0\x01'; done
} >labels.idx
steps() {
    "$aftermap" train idx:images.idx,labels.idx --method supervised --preset lite3 --batch 2 -o m.safetensors --overwrite \
        --json -q "$@" | jq .steps
}
printf '# comment\nseed = 7\n[train]\nsteps = 3\n[assess]\ntta = 8\n' >config/aftermap/config
[ "$(steps)" = 3 ] || fail 'the configuration file is not heard'
[ "$(AFTERMAP_STEPS=2 steps)" = 2 ] || fail 'the environment does not win over the configuration file'
[ "$(AFTERMAP_STEPS=2 steps --steps 1)" = 1 ] || fail 'the command line does not win over the environment'
printf 'steps = 4\n' >other
[ "$(steps --config other)" = 4 ] || fail '--config is not heard'
printf 'steps\n' >config/aftermap/config
expect 2 "expected 'option = value'" "$aftermap" train x -o y
printf '[tyle]\n' >config/aftermap/config
expect 2 "no command 'tyle'" "$aftermap" train x -o y
rm config/aftermap/config
AFTERMAP_JSON=maybe expect 2 'yes or no' "$aftermap" info x

# every option of the tables is in the man page and in each completion
"$aftermap" help --man >aftermap.1
command -v mandoc >/dev/null && { mandoc -T lint -W error aftermap.1 || fail 'mandoc finds errors in the man page'; }
"$aftermap" completion bash >aftermap.bash && bash -n aftermap.bash || fail 'bash completion does not parse'
"$aftermap" completion zsh >_aftermap && "$aftermap" completion fish >aftermap.fish || fail 'completion'
for option in label-map labels-per-class operating-point truth port budget split-seed; do
    grep -qF -- "\\-$option" aftermap.1 || fail "--$option is not in the man page"
    for file in aftermap.bash _aftermap aftermap.fish; do
        grep -q -- "$option" $file || fail "--$option is not in $file"
    done
done
# the bash completion completes
words=$(bash -c 'source ./aftermap.bash; COMP_WORDS=(aftermap as); COMP_CWORD=1; _aftermap; echo "${COMPREPLY[*]}"')
[ "$words" = assess ] || fail "bash completion of 'as' gives '$words'"

# the program exports nothing that could take the place of a library's function: libgdal alone brings json-c along
exported=$(nm -D --defined-only "$aftermap" | awk '$2 ~ /[TDB]/ {print $3}' | grep -vE '@|^(__(asan|ubsan|lsan|sanitizer)_.*|_init|_fini|_start|main|_edata|_end|__bss_start|data_start|_IO_stdin_used)$' || true)
[ -z "$exported" ] || fail "the program exports: $exported"

# a full disk on standard output is an error, not silence
if [ -c /dev/full ]; then
    got=0
    "$aftermap" help >/dev/full 2>/dev/null || got=$?
    [ "$got" -eq 5 ] || fail "help to a full disk ends with $got, not 5"
fi
finish
