# SPDX-License-Identifier: Apache-2.0
# Sourced by tests that need a running server: starts `aftermap serve` on a free loopback port over a fresh fixture and ends
# it with the script. Sets base (without a slash at the end), map, work; counts failures in failed.
# usage: . server.sh PROGRAM
program=$1
work=$(mktemp -d)
server=
failed=0
finish() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; fi
    rm -rf "$work"
}
trap finish EXIT

start_server() { # further options and folders
    : >"$work/stdout" # an earlier server's address must not be taken for this one's
    "$program" serve "$@" --port 0 >"$work/stdout" 2>"$work/stderr" &
    server=$!
    for _ in $(seq 200); do
        base=$(head -n 1 "$work/stdout" | sed 's#/$##')
        [ -n "$base" ] && return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
    echo "the server did not start:"
    cat "$work/stderr"
    server=
    exit 1
}

# root: a data root with the fixture's images and outlines in root/scenes; the fixture itself in work/fix
make_data_root() {
    bash "$here/make_fixture.sh" "$work/fix" || exit 1
    root=$work/data
    mkdir -p "$root/scenes"
    cp "$work/fix/pre.tif" "$work/fix/post.tif" "$root/scenes/"
    ogr2ogr -q -f GPKG -select bldg_id -nln houses "$root/scenes/houses.gpkg" "$work/fix/damage.gpkg"
}

check() { # what, got, wanted
    if [ "$2" = "$3" ]; then
        echo "ok   $1"
    else
        echo "FAIL $1: got '$2', wanted '$3'"
        failed=$((failed + 1))
    fi
}

code() { # curl arguments: the status only
    curl -s -o /dev/null -w '%{http_code}' "$@"
}

header() { # name, curl arguments: value of a response header, by GET
    local name=$1
    shift
    curl -s -D - -o /dev/null "$@" | tr -d '\r' | sed -n "s/^$name: //Ip" | head -n 1
}
