#!/usr/bin/env bash
# The scene maker: the same seed gives the same bytes at any thread count, another seed others; GDAL's own tools see what
# was promised; the truth agrees with itself; everything is marked synthetic. Usage: test_scene.sh AFTERMAP BUILD_DIR
set -euo pipefail
scene=$2/aftermap-scene
[ -x "$scene" ] || {
    echo "no $scene"
    exit 77
}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# has FILE TEXT: gdalinfo's view of FILE holds TEXT
has() {
    grep -qF -- "$2" <<<"$(gdalinfo "$1")" || fail "$1: gdalinfo does not say '$2'"
}

count() {
    ogrinfo -ro -q -sql "SELECT COUNT(*) AS n FROM footprints WHERE $2" "$1/footprints.gpkg" | sed -n 's/.*n (Integer[0-9]*) = //p'
}

small=(--size-px 700x600 --buildings 60)
"$scene" --seed 7 "${small[@]}" --threads 1 -o "$dir/a" >"$dir/talk"
"$scene" --seed 7 "${small[@]}" --threads 3 -q -o "$dir/b" >"$dir/quiet"
"$scene" --seed 8 "${small[@]}" -q -o "$dir/c"
grep -q '60 buildings' "$dir/talk" || fail "no summary on stdout"
[ ! -s "$dir/quiet" ] || fail "--quiet spoke"
for f in pre.tif post.tif footprints.gpkg truth.json; do
    cmp "$dir/a/$f" "$dir/b/$f" || fail "$f depends on the thread count"
    ! cmp -s "$dir/a/$f" "$dir/c/$f" || fail "$f does not depend on the seed"
done
[ "$(find "$dir/a" -type f | wc -l)" -eq 4 ] || fail "left files behind: $(ls "$dir/a")"

has "$dir/a/pre.tif" 'Size is 700, 600'
has "$dir/a/pre.tif" 'Pixel Size = (0.500000000000000,-0.500000000000000)'
has "$dir/a/pre.tif" 'ID["EPSG",32626]'
has "$dir/a/pre.tif" 'Block=256x256 Type=Byte, ColorInterp=Red'
has "$dir/a/pre.tif" 'NoData Value=0'
has "$dir/a/post.tif" 'ID["EPSG",4326]'
has "$dir/a/post.tif" 'Type=Byte, ColorInterp=Blue'
for f in pre post; do
    has "$dir/a/$f.tif" 'SYNTHETIC=YES'
    # neither blank nor saturated: the mean of each band lies well inside 1..255, and it varies
    gdalinfo -stats --config GDAL_PAM_ENABLED NO "$dir/a/$f.tif" | sed -n 's/.*STATISTICS_\(MEAN\|STDDEV\)=//p' | paste - - |
        awk '$1 < 40 || $1 > 200 || $2 < 12 { bad = 1 } END { exit bad || NR != 3 }' || fail "$f.tif: implausible statistics"
    # a nodata wedge, but no more than a seventh of the image
    share=$(gdalinfo -stats --config GDAL_PAM_ENABLED NO "$dir/a/$f.tif" | sed -n 's/.*STATISTICS_VALID_PERCENT=//p' | head -n 1)
    awk -v s="$share" 'BEGIN { exit !(s > 85 && s < 100) }' || fail "$f.tif: $share % valid"
done
# the post pixels are 0.6 m on the average of both directions: degrees * metres per degree * sqrt(cos latitude)
gdalinfo "$dir/a/post.tif" | awk -F'[(,]' '/^Pixel Size/ { d = $2 } /^Center/ { lat = $3 } END {
    g = d * 111195 * sqrt(cos(lat * 3.14159265 / 180)); exit !(g > 0.597 && g < 0.603) }' || fail "post.tif is not at 0.6 m"

# the town lies where its images lie, and the images cover each other
ogrinfo -ro -so "$dir/a/footprints.gpkg" footprints >"$dir/layer"
grep -q 'Feature Count: 60$' "$dir/layer" || fail "not 60 footprints"
grep -q 'SYNTHETIC=YES' "$dir/layer" || fail "the footprints layer is not marked"
awk -F'[(), ]+' '/^Extent/ { exit !($2 > 380000 && $3 > 4560000 - 300 && $5 < 380000 + 350 && $6 < 4560000) }' "$dir/layer" ||
    fail "footprints outside the image: $(grep ^Extent "$dir/layer")"
[ "$(count "$dir/a" "synthetic = 'YES'")" -eq 60 ] || fail "unmarked rows"
[ "$(ogrinfo -ro -q -dialect sqlite -sql 'SELECT COUNT(*) AS n FROM footprints WHERE NOT ST_IsValid(geom)' \
    "$dir/a/footprints.gpkg" | sed -n 's/.*n (Integer[0-9]*) = //p')" = 0 ] || fail "invalid outlines"
for grade in none minor major destroyed unknown; do
    wrote=$(sed -n "/\"damage\"/,/}/s/.*\"$grade\":[^0-9]*\([0-9]*\).*/\1/p" "$dir/a/truth.json")
    [ "$wrote" = "$(count "$dir/a" "damage = '$grade'")" ] || fail "truth.json counts $wrote of $grade"
done
[ "$(count "$dir/a" "damage IN ('none', 'minor', 'major', 'destroyed') AND reason IS NULL OR damage = 'unknown' AND reason IS NOT NULL")" -eq 60 ] ||
    fail "a reason where there is a grade, or none where there is none"
[ "$(count "$dir/a" "damage IN ('major', 'destroyed')")" -ge 5 ] || fail "hardly any damage"
[ "$(count "$dir/a" "damage = 'none'")" -ge 5 ] || fail "hardly anything intact"
# no more than four post pixels of registration shift and as much again of relief displacement
[ "$(count "$dir/a" 'ABS(true_dx) > 4.8 OR ABS(true_dy) > 4.8')" -eq 0 ] || fail "shifts too large"
[ "$(count "$dir/a" 'ABS(true_dx) > 0.3 OR ABS(true_dy) > 0.3')" -gt 10 ] || fail "no shifts"

"$scene" --seed 7 "${small[@]}" --event wildfire --bits 16 --bands 4 --post-gsd 0.8 -q -o "$dir/d"
has "$dir/d/pre.tif" 'Band 4 Block=256x256 Type=UInt16'
has "$dir/d/pre.tif" 'Description = near infrared'
[ "$(count "$dir/d" "damage = 'destroyed'")" -ge 3 ] || fail "the fire did nothing"

# refusals: usage errors end with 2, too little ground with 3, and nothing is written
expect() {
    local status=$1 got=0
    shift
    "$scene" "$@" >/dev/null 2>"$dir/err" || got=$?
    if [ "$got" -ne "$status" ] || [ ! -s "$dir/err" ]; then
        fail "'$*' ended with $got, not $status"
    fi
}
expect 2
expect 2 -o "$dir/e" --event flood
expect 2 -o "$dir/e" --bits 12
expect 2 -o "$dir/e" --size-px 20
expect 2 -o "$dir/e" --pre-gsd nan
expect 3 -o "$dir/e" --size-px 700 --buildings 5000
[ ! -e "$dir/e" ] || fail "a refused run left $dir/e"
touch "$dir/file"
expect 1 -q "${small[@]}" -o "$dir/file/x"
echo "all checks passed"
