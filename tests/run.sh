#!/usr/bin/env bash
# Installs what the tests need, builds the program twice (release; address and undefined-behaviour sanitizers) and runs
# everything through ctest. Usage: tests/run.sh [build folder]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}

packages=(build-essential cmake pkg-config libgdal-dev libproj-dev libopenblas-dev libtiff-dev libmicrohttpd-dev libcjson-dev
    nettle-dev zlib1g-dev libcmocka-dev gdal-bin python3-gdal python3-numpy nodejs npm chromium curl jq mandoc)
missing=()
for package in "${packages[@]}"; do
    # another source of nodejs may already bring npm along
    case $package in
    npm | nodejs) command -v "${package/nodejs/node}" >/dev/null && continue ;;
    esac
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    echo "installing: ${missing[*]}"
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

jobs=$(nproc)
cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DAM_WERROR=ON >/dev/null
cmake --build "$build" -j "$jobs"
# Servers and browsers one after the other: they wait on clocks.
ctest --test-dir "$build" -LE 'http|ui|qgis' -j "$jobs" --output-on-failure
ctest --test-dir "$build" -L 'http|ui' --output-on-failure

# The sanitizer build runs the unit and command-line tests again; the page and the server are covered above.
# Its warnings are no errors: the sanitizers' own checks make gcc see conversions that are not in the source.
cmake -S . -B "$build-sanitize" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DAM_SANITIZE=address,undefined -DAM_UI=OFF >/dev/null
# libgdal, its drivers and the words of the command line live as long as the process; the build runs the program, too.
export ASAN_OPTIONS=detect_leaks=0
cmake --build "$build-sanitize" -j "$jobs"
ctest --test-dir "$build-sanitize" -L 'unit|cli' -j "$jobs" --output-on-failure
ctest --test-dir "$build-sanitize" -L http --output-on-failure
