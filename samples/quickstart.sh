#!/usr/bin/env bash
# From a bare Debian 12 to a damage map in about ten minutes on two cores: installs the packages it lacks, builds, draws the
# sample event, learns from ten labels per class, maps every building, scores the map on blocks it has not seen.
# Safe to run again: what is done stays done. To start over: rm -r samples/output
# Usage: samples/quickstart.sh [build folder]   (default: build)
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
out=samples/output
total_s=570       # all of it, when nothing is built yet
after_train_s=75  # assess and evaluate

say() {
    printf '\n== %s\n' "$*" >&2
}

die() {
    printf 'quickstart: %s\n' "$*" >&2
    exit 1
}

install_packages() {
    local packages=(build-essential cmake pkg-config libgdal-dev libproj-dev libopenblas-dev libtiff-dev libmicrohttpd-dev
        libcjson-dev nettle-dev zlib1g-dev gdal-bin nodejs npm)
    local missing=() package
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        say "no apt-get here: taking it that the libraries the README names are installed"
        return
    fi
    for package in "${packages[@]}"; do
        case $package in # another source of node may bring npm along
        nodejs) command -v node >/dev/null && continue ;;
        npm) command -v npm >/dev/null && continue ;;
        esac
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "these packages are missing and there is no sudo: as root, run
  apt-get install ${missing[*]}"
        root=(sudo)
    fi
    say "installing ${missing[*]}"
    "${root[@]}" apt-get update -qq || die "apt-get update failed; is the network up?"
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        die "apt-get could not install: ${missing[*]}"
}

build_program() {
    say "building into $build"
    [ -f "$build/CMakeCache.txt" ] || cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DAM_TESTS=OFF >/dev/null
    if ! cmake --build "$build" -j "$(nproc)" --target aftermap aftermap-scene >"$build/quickstart.log" 2>&1; then
        tail -n 30 "$build/quickstart.log" >&2
        die "the build failed; all of it is in $build/quickstart.log"
    fi
}

# run MADE COMMAND...: runs the command unless what it makes is there already
run() {
    local made=$1
    shift
    if [ -e "$made" ]; then
        say "$made is there already"
        return
    fi
    [ "$1" = train_model ] || printf '\n$ %s\n' "$*" >&2
    "$@"
}

# What is left of the ten minutes, within reason. A second run on a built tree gets the whole of it.
train_budget() {
    local left=$((total_s - SECONDS - after_train_s))
    [ "$left" -le 300 ] || left=300
    [ "$left" -ge 90 ] || left=90
    echo "${left}s"
}

# Under another name until it is whole: an interrupted run leaves a checkpoint, which is no model to map with.
train_model() {
    set -- "$build/aftermap" train "$out/event" --method fixmatch --labels-per-class 10 --cut 2 --seed 1 \
        --budget "$(train_budget)" --overwrite -o "$out/model.part.safetensors"
    printf '\n$ %s\n' "$*" >&2
    "$@"
    mv "$out/model.part.safetensors" "$out/model.safetensors"
}

install_packages
build_program
mkdir -p "$out"
say "the sample: a town before and after a tornado, drawn by aftermap-scene; SYNTHETIC, no real place"
run "$out/sample/truth.json" "$build/aftermap-scene" --seed 1 -o "$out/sample"
run "$out/event/event.json" "$build/aftermap" tile --pre "$out/sample/pre.tif" --post "$out/sample/post.tif" \
    --footprints "$out/sample/footprints.gpkg" --label-field damage -o "$out/event"
run "$out/model.safetensors" train_model
run "$out/map/run.json" "$build/aftermap" assess "$out/event" --model "$out/model.safetensors" -o "$out/map"
say "the map against the truth, on blocks of the town that were held out"
"$build/aftermap" evaluate "$out/map" --truth "$out/event"

cat <<END

Made in $((SECONDS / 60)) min $((SECONDS % 60)) s:
  $out/sample/      pre.tif post.tif footprints.gpkg truth.json (synthetic)
  $out/event/       the tiled event: a chip of each building on both dates
  $out/model.safetensors
  $out/map/         damage.tif prob.tif damage.gpkg damage.geojson damage.csv run.json

Look at it:
  $build/aftermap serve $out/map       then open http://127.0.0.1:8080/
  or open $out/map/damage.gpkg in QGIS: it brings its colours along
END
