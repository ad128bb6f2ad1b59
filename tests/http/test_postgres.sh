#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The tables of a team in PostgreSQL (serve --store postgresql:...), walked through HTTP: an assessment, labels by two people
# at once, jobs, a server killed and started again, and the database itself gone for a while. What must be there is read
# with psql. The test starts a cluster of its own in a temporary folder, reached by a socket in there and nothing else.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for tool in curl jq ogr2ogr setpriv; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done
bin=$(ls -d /usr/lib/postgresql/1[5-9]/bin 2>/dev/null | tail -n 1)
[ -x "$bin/initdb" ] || { echo "PostgreSQL is not installed"; exit 77; }
. "$here/server.sh" "$1"
pg=$(mktemp -d)
as=()
[ "$(id -u)" = 0 ] && chown nobody "$pg" && as=(setpriv --reuid=nobody --regid=nogroup --clear-groups) # it refuses to run as root
control() { (cd "$pg" && "${as[@]}" "$bin/pg_ctl" -D "$pg/data" -w -t 60 -l "$pg/log" "$@") >"$work/pg" 2>&1; }
start_database() { control -o "-c listen_addresses='' -k $pg -c fsync=off" start; }
leave() {
    control -m immediate stop
    rm -rf "$pg"
    finish
}
trap leave EXIT
(cd "$pg" && "${as[@]}" "$bin/initdb" -D "$pg/data" -A trust -U aftermap -E UTF8 --locale=C -N) >"$work/pg" 2>&1 && start_database ||
    { echo "PostgreSQL does not start here:"; cat "$work/pg"; exit 1; }
sql() { "$bin/psql" -qAt -h "$pg" -U aftermap -d postgres -c "$1"; }
store=postgresql:"host=$pg user=aftermap dbname=postgres"
make_data_root
start_server --data-root "$root" --store "$store"
J='Content-Type: application/json'
get() { curl -sS -m 60 "$@"; }
A=$base/assessments/t
follow() { timeout 200 curl -sSN "$base/jobs/$1/events" | grep '^data: ' | tail -1 | cut -c7- | jq -r .status; }
put() { curl -sS -m 60 -o "$work/r" -w '%{http_code}' -X PUT -H "$J" "${@:2}" "$A/labels/$1"; }

echo "# an assessment and its labels"
job=$(curl -sS -H "$J" -d '{"id":"t","title":"T","pre":["scenes/pre.tif"],"post":["scenes/post.tif"],"footprints":"scenes/houses.gpkg","size_m":16,"gsd_m":0.5}' "$base/assessments" | jq -r .job.jobID)
check "imported" "$(follow "$job")" successful
until [ "$(get "$A" | jq -r .state)" = ready ]; do sleep 0.1; done
table() { sql "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables WHERE table_schema = 'aftermap' AND table_name LIKE '$1%' LIMIT 1"; }
labels=$(table label) jobs=$(table job)
check "tables" "$([ -n "$labels" ] && [ -n "$jobs" ] && echo yes)" yes
check "no file beside them" "$(ls "$root/t" | grep -c gpkg)" 0
check "a label" "$(put b1 -H 'If-None-Match: *' -d '{"dmg_class":"major","by":"ana","note":"caf\u00e9 \u0027; DROP"}')" 201
check "as it was sent" "$(get "$A/labels/b1" | jq -c '[.dmg_class,.by,.note]')" '["major","ana","café '"'"'; DROP"]'
check "blindly over another's" "$(put b1 -d '{"dmg_class":"none","by":"ben"}')" 409
tag=$(get "$A/labels/b1" | jq -r .etag)
for i in $(seq 8); do
    curl -sS -o /dev/null -w '%{http_code}\n' -X PUT -H "$J" -H "If-Match: $tag" -d "{\"dmg_class\":\"minor\",\"by\":\"p$i\"}" "$A/labels/b1" &
done >"$work/race"
wait $(jobs -p | grep -v "^$server$")
check "of eight at once one wins" "$(sort "$work/race" | uniq -c | awk '{print $2 "x" $1}' | tr '\n' ' ')" "200x1 412x7 "
# Fewer than 25 in all: at 25 the server would train by itself.
awk 'BEGIN { print "bldg_id,grade,by"; split("none minor major destroyed", name, " ")
    for (n = 2; n <= 20; n++) print "b" n "," name[1 + n % 4] ",ana" }' >"$work/l.csv"
check "a table of them" "$(curl -sS -H 'Content-Type: text/csv' --data-binary "@$work/l.csv" "$A/labels" | jq -c '[.created,.n_refused]')" "[19,0]"
check "taken back" "$(code -X DELETE -H "If-Match: $(get "$A/labels/b2" | jq -r .etag)" "$A/labels/b2")" 204
check "rows of the history" "$(sql "SELECT count(*) FROM $labels")" "$(get "$A/labels/history" | jq '.entries | length')"
check "as a collection" "$(get "$base/collections/t.labels/items" | jq .numberMatched)" 19

echo "# jobs"
train() { curl -sS -H "$J" -d "{\"inputs\":{\"assessment\":\"t\",$1,\"seed\":1,\"preset\":\"lite\",\"batch\":8,\"max_items\":64}}" "$base/processes/train/execution" | jq -r .jobID; }
check "a model" "$(follow "$(train '"steps":5')")" successful
check "a map" "$(follow "$(curl -sS -H "$J" -d '{"inputs":{"assessment":"t","tta":"1"}}' "$base/processes/predict/execution" | jq -r .jobID)")" successful
long=$(train '"budget_s":600')
for _ in $(seq 600); do [ "$(get "$base/jobs/$long" | jq -r .status)" = running ] && break; sleep 0.1; done

echo "# killed"
before=$(get "$A/labels" | jq -cS .labels)
kill -9 "$server"
wait "$server" 2>/dev/null
start_server --data-root "$root" --store "$store"
A=$base/assessments/t
check "every label" "$(get "$A/labels" | jq -cS .labels)" "$before"
check "the running job goes on" "$(get "$base/jobs/$long" | jq -r .status | grep -cE '^(accepted|running)$')" 1
check "and can be dismissed" "$(code -X DELETE "$base/jobs/$long")" 200
for _ in $(seq 600); do [ "$(get "$base/jobs/$long" | jq -r .status)" = dismissed ] && break; sleep 0.1; done
check "in the table, too" "$(sql "SELECT count(*) FROM $jobs WHERE status = 'dismissed'")" 1

echo "# without its database"
control -m immediate stop
answer=$(put b30 -H 'If-None-Match: *' -d '{"dmg_class":"none","by":"ana"}')
check "a label is refused" "$(echo "$answer" | grep -cE '^5')" 1
check "readably" "$(jq -r '.detail | length > 10' "$work/r")" true
check "it is not ready, and says so" "$(code "$base/readyz")" 503
check "what needs no table goes on" "$(code "$base/healthz") $(code "$base/collections/t.buildings/items?limit=1")" "200 200"
start_database
for _ in $(seq 100); do [ "$(code "$base/readyz")" = 200 ] && break; sleep 0.2; done
check "a label, with the database back" "$(put b30 -H 'If-None-Match: *' -d '{"dmg_class":"none","by":"ana"}')" 201
check "nothing is lost" "$(get "$A/labels" | jq .count)" 20
[ $failed -eq 0 ] || { echo "$failed failed"; cat "$work/stderr"; exit 1; }
