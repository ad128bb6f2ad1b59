#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A data root on a file system that fills up (a small tmpfs, so only where the test is root): writes are refused with a clear
# answer, the server stays up and answers, everything acknowledged before is there, and writing goes on once there is room.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for tool in curl jq ogr2ogr mountpoint; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done
[ "$(id -u)" = 0 ] || { echo "only root may mount a tmpfs"; exit 77; }
. "$here/server.sh" "$1"
root=$work/data
mkdir "$root"
mount -t tmpfs -o size=16m aftermap-test "$root" 2>/dev/null || { echo "no tmpfs can be mounted here"; exit 77; }
leave() {
    [ -n "$server" ] && { kill "$server"; wait "$server"; } 2>/dev/null
    server=
    umount "$root"
    finish
}
trap leave EXIT
make_data_root
start_server --data-root "$root"
J='Content-Type: application/json'
curl -sS -o "$work/r" -H "$J" "$base/assessments" -d '{"id":"k","title":"K","pre":["scenes/pre.tif"],"post":["scenes/post.tif"],
    "footprints":"scenes/houses.gpkg","size_m":8,"gsd_m":0.5}'
A=$base/assessments/k
for _ in $(seq 300); do [ "$(curl -sS "$A" | jq -r .state)" = ready ] && break; sleep 0.2; done
check "ready" "$(curl -sS "$A" | jq -r .state)" ready
label() { curl -s -o "$work/r" -w '%{http_code}' -X PUT -H "$J" -H 'If-None-Match: *' -d "{\"dmg_class\":\"minor\",\"by\":\"ana\",\"note\":\"$2\"}" "$A/labels/b$1"; }
for i in 1 2 3; do check "label $i" "$(label $i n)" 201; done

echo "# full"
dd if=/dev/zero of="$root/ballast" bs=4k 2>/dev/null
long=$(head -c 1900 /dev/zero | tr '\0' x)
acked=3 refused=
for i in $(seq 4 60); do
    answer=$(label "$i" "$long")
    if [ "$answer" = 201 ]; then acked=$((acked + 1)); else refused=$answer; break; fi
done
check "a label is refused" "$refused" 507
check "as a problem that can be read" "$(jq -r '.status, (.detail | length > 10)' "$work/r" | paste -sd' ')" "507 true"
id=$(curl -sS -H "$J" -d '{"name":"a.tif","bytes":1000000}' -o "$work/r" -w '%{http_code}' "$base/uploads")
check "an upload is refused" "$id" 507
check "the server answers" "$(code "$base/healthz") $(code "$A/labels") $(code "$base/collections/k.buildings/items?limit=1")" "200 200 200"
check "nothing is lost" "$(curl -sS "$A/labels" | jq .count)" "$acked"

echo "# room again"
rm "$root/ballast"
check "a label" "$(label 200 n)" 201
kill -9 "$server"
wait "$server" 2>/dev/null
server=
start_server --data-root "$root"
check "after a restart" "$(curl -sS "$base/assessments/k/labels" | jq .count)" $((acked + 1))
[ $failed -eq 0 ] || { echo "$failed failed"; cat "$work/stderr"; exit 1; }
