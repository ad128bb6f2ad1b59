#!/usr/bin/env bash
# Shared by the shell tests: a scratch folder, and checks that print what went wrong. Source it; it reads $1 (the program)
# and $2 (the build folder).
set -euo pipefail
aftermap=$(realpath "$1")
build=$(realpath "$2")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'echo "FAIL: line $LINENO ended the test: $BASH_COMMAND"' ERR
cd "$scratch"
export XDG_CONFIG_HOME=$scratch/config
failures=0

fail() {
    echo "FAIL: $*"
    failures=$((failures + 1))
}

# COMMAND | says PATTERN...: grep's verdict, having read to the end. Of a reader that leaves early the command would learn by
# SIGPIPE, now and then, and pipefail would call that a failure.
says() {
    local got=0
    grep -q "$@" || got=$?
    cat >/dev/null
    return $got
}

# expect STATUS PATTERN COMMAND...: runs it, wants this exit status and one line on stderr that matches.
expect() {
    local status=$1 pattern=$2 got=0
    shift 2
    "$@" >out.txt 2>err.txt || got=$?
    [ "$got" -eq "$status" ] || fail "'$*' ended with $got, not $status: $(tail -n 3 err.txt)"
    grep -qiE -- "$pattern" err.txt || fail "'$*' did not say '$pattern' but: $(tail -n 3 err.txt)"
    # one clear sentence, not a trail of library messages
    local n
    n=$(grep '^aftermap: ' err.txt | grep -vc '^aftermap: note: ' || true)
    [ "$status" -eq 0 ] || [ "$status" -eq 2 ] || [ "$n" -eq 1 ] || fail "'$*' printed $n error lines: $(cat err.txt)"
}

# A small event and a model of it, made once a test.
make_scene() {
    "$build/aftermap-scene" --seed "${2:-5}" --size-px 700 --buildings 90 -o "$1" >/dev/null 2>&1
}

# images.idx, labels.idx and their name in data: 120 images of SIDE x SIDE in two greys, each with a last row of its own
make_greys() { # SIDE
    local i side=$1 octal
    octal=$(printf '%03o' "$side")
    {
        printf '\0\0\x08\x03\0\0\0\x78\0\0\0\'"$octal"'\0\0\0\'"$octal"
        for i in $(seq 0 119); do
            head -c $((side * (side - 1))) /dev/zero | tr '\0' "\\$(printf %o $((60 + 120 * (i % 2))))"
            head -c "$side" /dev/zero | tr '\0' "\\$(printf %o $((2 * i)))"
        done
    } >images.idx
    {
        printf '\0\0\x08\x01\0\0\0\x78'
        for _ in $(seq 60); do printf '\0\x01'; done
    } >labels.idx
    data=idx:images.idx,labels.idx
}

# interrupt COMMAND...: SIGINT as soon as the command reports progress of the stage named in $stage
interrupt() {
    local got=0
    "$@" --progress=json >out.txt 2>err.txt &
    local pid=$!
    for _ in $(seq 600); do
        grep -q "\"stage\":\"$stage\"" err.txt && break
        kill -0 $pid 2>/dev/null || break
        sleep 0.01
    done
    kill -INT $pid 2>/dev/null || true
    wait $pid || got=$?
    echo $got
}

# survives_a_stop WHOLE COMMAND...: a training stopped by a signal and gone on with ends in the same bits as the unbroken
# run's file WHOLE, whatever the threads.
survives_a_stop() {
    local whole=$1 got stage=train
    shift
    got=$(interrupt "$@" --threads 1 -o again.safetensors)
    [ "$got" -eq 130 ] || [ "$got" -eq 0 ] || fail "a stopped run ended with $got: $(tail -n 2 err.txt)"
    echo "the stopped run: $(tail -n 1 err.txt)"
    [ -f again.safetensors ] || fail "a stopped run left nothing: $(cat err.txt)"
    "$@" --threads 3 --resume -o again.safetensors -q --progress none >/dev/null || fail 'resume failed'
    cmp -s again.safetensors "$whole" || fail 'a run that was stopped ends in other bits'
}

finish() {
    [ "$failures" -eq 0 ] || {
        echo "$failures checks failed"
        exit 1
    }
    echo "all checks passed"
}
