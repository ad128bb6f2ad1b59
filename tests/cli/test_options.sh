#!/usr/bin/env bash
# The command line itself: help, man page, completions, precedence of defaults, wrong use.
# shellcheck source=lib.sh
source "$(dirname "$0")/lib.sh"

"$aftermap" --version | grep -qE '^aftermap [0-9]+\.[0-9]+\.[0-9]+$' || fail 'no version'
for command in tile train assess evaluate serve info help completion; do
    "$aftermap" help $command >help.txt || fail "help $command"
    "$aftermap" $command --help | cmp -s - help.txt || fail "$command --help differs from help $command"
done
expect 2 "no command 'tyle'" "$aftermap" tyle
expect 2 'whole number' "$aftermap" train x --steps many -o y
expect 2 'exclude each other' "$aftermap" train x --steps 5 --budget 5m -o y
expect 2 'time such as' "$aftermap" train x --budget 5x -o y
expect 2 '--pre and --post' "$aftermap" tile -o y
expect 2 'takes 1 or 8' "$aftermap" assess x --model y --tta 3 -o z
expect 2 'writes no files' "$aftermap" evaluate x --truth y --dry-run

# defaults: command line > environment > configuration file
mkdir -p config/aftermap
printf '# comment\nseed = 7\n[train]\nsteps = abc\n' >config/aftermap/config
expect 2 "not 'abc'" "$aftermap" train x -o y
AFTERMAP_STEPS=def expect 2 "not 'def'" "$aftermap" train x -o y
expect 2 "not 'ghi'" "$aftermap" train x -o y --steps ghi
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
    grep -q "\\\\-$(sed 's/-/\\\\\\\\-/g' <<<"$option")" aftermap.1 || fail "--$option is not in the man page"
    for file in aftermap.bash _aftermap aftermap.fish; do
        grep -q -- "$option" $file || fail "--$option is not in $file"
    done
done
# the bash completion completes
words=$(bash -c 'source ./aftermap.bash; COMP_WORDS=(aftermap as); COMP_CWORD=1; _aftermap; echo "${COMPREPLY[*]}"')
[ "$words" = assess ] || fail "bash completion of 'as' gives '$words'"

# a full disk on standard output is an error, not silence
if [ -c /dev/full ]; then
    got=0
    "$aftermap" help >/dev/full 2>/dev/null || got=$?
    [ "$got" -eq 5 ] || fail "help to a full disk ends with $got, not 5"
fi
finish
