#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A server that is killed in the middle of a burst of labels, again and again: after each restart every label that was
# acknowledged with 200 or 201 is there as it was sent, the history has no gap, and SQLite finds the file sound.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for tool in curl jq ogr2ogr sqlite3; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done
. "$here/server.sh" "$1"
make_data_root
start_server --data-root "$root"

curl -sS -H 'Content-Type: application/json' "$base/assessments" -o "$work/r" -d '{"id":"k","title":"K","pre":["scenes/pre.tif"],
    "post":["scenes/post.tif"],"footprints":"scenes/houses.gpkg"}'
for _ in $(seq 600); do
    status=$(curl -sS "$base/jobs?assessment=k" | jq -r '.jobs[0].status')
    [ "$status" = accepted ] || [ "$status" = running ] || break
    sleep 0.2
done
check "the import" "$status" successful
[ "$status" = successful ] || exit 1

levels=(none minor major destroyed)
burst() { # first building: labels one after the other until the server is gone; what it acknowledged goes to the file acked
    local n=$1 answer
    while :; do
        answer=$(curl -s -o /dev/null -w '%{http_code}' -X PUT -H 'Content-Type: application/json' -H 'If-None-Match: *' \
            "$base/assessments/k/labels/b$n" -d "{\"dmg_class\":\"${levels[n % 4]}\",\"by\":\"burst\",\"note\":\"n$n\"}")
        case $answer in
        200 | 201) echo "b$n ${levels[n % 4]} n$n" >>"$work/acked" ;;
        000) return ;;
        esac
        n=$((n + 1))
    done
}

for round in 1 2 3; do
    touch "$work/acked"
    before=$(wc -l <"$work/acked")
    burst $((round * 300 - 299)) &
    writer=$!
    for _ in $(seq 400); do
        [ $(($(wc -l <"$work/acked") - before)) -ge $((6 + round)) ] && break
        sleep 0.03
    done
    kill -9 "$server"
    wait "$server" 2>/dev/null
    wait "$writer"
    server=
    check "round $round: the file is sound" "$(sqlite3 "$root/k/store.gpkg" 'PRAGMA integrity_check')" ok
    start_server --data-root "$root"
    curl -sS "$base/assessments/k/labels" >"$work/labels"
    jq -r '.labels[] | .bldg_id + " " + .dmg_class + " " + .note' "$work/labels" | sort >"$work/there"
    check "round $round: acknowledged and lost" "$(sort "$work/acked" | comm -23 - "$work/there" | wc -l)" 0
    check "round $round: there and never sent whole" "$(awk '$2 !~ /^(none|minor|major|destroyed)$/ || $3 != "n" substr($1, 2)' "$work/there" | wc -l)" 0
    check "round $round: more than was under way" "$(($(wc -l <"$work/there") - $(wc -l <"$work/acked") <= round))" 1
    check "round $round: a history without gaps" \
        "$(curl -sS "$base/assessments/k/labels/history" | jq -c '[.entries[].seq] == [range(1; 1 + (.entries | length))]')" true
done
[ "$failed" -eq 0 ]
