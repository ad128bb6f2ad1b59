#!/usr/bin/env bash
# The house rules a machine can see: who may include whom, banned functions, head comments, file sizes, unique names.
# Usage: layers.sh SOURCE_DIR
set -euo pipefail
cd "$1"
bad=0
complain() {
    echo "layers: $*"
    bad=1
}

# A folder includes its own and lower ones, never higher.
allowed() {
    case $1 in
    models/base) echo 'models/base' ;;
    models/kernels) echo 'models/base|models/kernels' ;;
    models/net) echo 'models/base|models/kernels|models/net' ;;
    models/data) echo 'models/base|models/data' ;;
    models/learn) echo 'models/(base|kernels|net|data|learn)' ;;
    geo) echo 'models/(base|kernels|net|data|learn)|geo' ;;
    web) echo 'models/(base|kernels|net|data|learn)|geo|web' ;;
    app) echo 'models/(base|kernels|net|data|learn)|geo|web|app' ;;
    samples/scene) echo 'models/base|samples/scene' ;;
    esac
}
for folder in models/base models/kernels models/net models/data models/learn geo web app samples/scene; do
    for file in "$folder"/*.[ch]; do
        [ -e "$file" ] || continue
        while IFS= read -r include; do
            echo "$include" | grep -qE "^($(allowed "$folder"))/[a-z0-9_]+\.(h|c)$" ||
                complain "$file includes \"$include\", which is above it or not written from the root"
        done < <(sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]+"([^"]+)".*/\1/p' "$file" | grep -v '^build_' || true)
        head -c 200 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' || complain "$file has no SPDX line"
        lines=$(wc -l <"$file")
        [ "$lines" -le 1000 ] || complain "$file has $lines lines; cut it"
    done
done

# The engine knows neither GDAL nor sockets nor the terminal, and only app/ and the sample's program end the process.
grep -nE '#[[:space:]]*include[[:space:]]+<(gdal|ogr|cpl|proj|microhttpd|sys/socket|argp|getopt)' -r models --include='*.[ch]' &&
    complain 'models/ includes a library it must not know'
grep -nE '\b(exit|_exit|abort|printf|puts|putchar|perror)[[:space:]]*\(' -r models geo web --include='*.c' |
    grep -vE '(snprintf|vsnprintf|fprintf|asprintf|VSIFPrintf)' | grep -vE '^[^:]+:[0-9]+:[[:space:]]*(/?\*|//)' &&
    complain 'only app/ may print or end the process'
grep -nE '\b(atoi|atol|atof|strcpy|strcat|sprintf|vsprintf|gets|strtok|rand|srand|alloca)[[:space:]]*\(' -r \
    models geo web app samples --include='*.[ch]' && complain 'a banned function'

names=$(find models geo web app samples/scene -name '*.[ch]' -not -path '*/node_modules/*' -printf '%f\n' | sort | uniq -d)
[ -z "$names" ] || complain "file names used twice: $names"

top=$(git ls-tree --name-only HEAD 2>/dev/null |
    grep -vE '^(app|geo|models|web|samples|tests|CMakeLists\.txt|README\.md|LICENSE|\..*)$' || true)
[ -z "$top" ] || complain "top-level entries beyond the agreed layout: $top"

# Built programs export nothing that could replace a library's function (libgdal brings json-c and others along).
exit $bad
