#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What `aftermap assess` writes, judged by GDAL's own programs: none of them may warn. Makes its own small event and model.
# Needs gdal-bin; python3-gdal (its COG validator) and python3 (RFC 7946 checks) are used where they are installed.
source "$(dirname "$0")/lib.sh"
[ -x "$build/aftermap-scene" ] || { echo 'no aftermap-scene: nothing to map'; exit 77; }

# quiet COMMAND...: must succeed without a word on stderr; stdout goes to out.txt
quiet() {
    "$@" >out.txt 2>err.txt || fail "'$*' failed: $(tail -n 3 err.txt)"
    [ ! -s err.txt ] || fail "'$*' warned: $(head -n 3 err.txt)"
}

has() { grep -qE -- "$1" out.txt || fail "$2: no '$1' in the answer"; }
lacks() { ! grep -qE -- "$1" out.txt || fail "$2: '$1' in the answer"; }

python=
for p in /usr/bin/python3 python3; do
    if command -v $p >/dev/null && $p -c 'import osgeo_utils' 2>/dev/null; then python=$p; break; fi
done
any_python=$(command -v python3 || true)

make_scene scene || { echo 'the scene maker does not run'; exit 77; }
"$aftermap" tile --pre scene/pre.tif --post scene/post.tif --footprints scene/footprints.gpkg --label-field damage \
    --size-m 16 -o event -q >/dev/null
"$aftermap" train event --method supervised --steps 2 --batch 8 --cut 2 -o two.safetensors -q >/dev/null
"$aftermap" train event --method supervised --steps 2 --batch 8 --cut 0 -o four.safetensors -q >/dev/null
n=$(ogrinfo -so scene/footprints.gpkg -al | sed -n 's/^Feature Count: //p' | head -n 1)

check_cog() { # FILE BANDS
    quiet gdalinfo -json "$1"
    has '"LAYOUT": *"COG"' "$1"
    has '"COMPRESSION": *"DEFLATE"' "$1"
    has '"AFTERMAP_VERSION"' "$1"
    has '"AFTERMAP_MODEL": *"[0-9a-f]{64}"' "$1"
    has '"AFTERMAP_EVENT": *"[0-9a-f]{64}"' "$1"
    has '"AFTERMAP_SEED"' "$1"
    [ "$(grep -cE '"block": *\[' out.txt)" -eq "$2" ] || fail "$1 has not $2 bands"
    [ "$(tr -d ' \n' <out.txt | grep -oE '"block":\[512,512\]' | wc -l)" -eq "$2" ] || fail "$1 is not tiled in 512"
    has '"overviews"' "$1"
    if [ -n "$python" ]; then
        quiet $python -m osgeo_utils.samples.validate_cloud_optimized_geotiff --full-check=yes "$1"
        has 'is a valid cloud optimized GeoTIFF' "$1"
    else
        echo "note: python3-gdal is not installed; the order inside $1 is checked by the unit test alone"
    fi
}

check_vectors() { # DIR
    quiet ogrinfo -so -al "$1/damage.gpkg"
    has "Feature Count: $n" "$1/damage.gpkg"
    has 'AFTERMAP_MODEL=' "$1/damage.gpkg"
    has '^Layer name: layer_styles' "$1/damage.gpkg"
    sed -n '/^Layer name: buildings/,/^Layer name: layer_styles/p' out.txt | sed -n 's/^\([a-z_0-9]*\): .*(.*)$/\1/p' >columns.gpkg
    quiet ogrinfo -so -al "$1/damage.geojson"
    has "Feature Count: $n" "$1/damage.geojson"
    sed -n 's/^\([a-z_0-9]*\): .*(.*)$/\1/p' out.txt >columns.geojson
    quiet ogrinfo -so -al "$1/damage.csv"
    has "Feature Count: $n" "$1/damage.csv"
    sed -n 's/^\([a-z_0-9]*\): .*(.*)$/\1/p' out.txt | head -n -2 >columns.csv
    echo 'bldg_id dmg_class dmg_level p_none p_minor p_major p_destr p_dmg entropy status reason lbl_src shift_x shift_y shift_q area_m2 split block model_id run_id updated' |
        tr ' ' '\n' >columns.want
    for kind in gpkg geojson csv; do
        cmp -s columns.want columns.$kind || fail "$1/damage.$kind has other columns: $(tr '\n' ' ' <columns.$kind)"
    done
    # every id once
    cut -d, -f1 "$1/damage.csv" | tail -n +2 | sort >ids
    [ "$(sort -u ids | wc -l)" -eq "$n" ] || fail "$1/damage.csv has repeated ids"
    rm -rf shape
    quiet ogr2ogr -f 'ESRI Shapefile' shape "$1/damage.gpkg" buildings
    quiet ogrinfo -so -al shape
    has "Feature Count: $n" shape
    rm -rf shape
    quiet ogr2ogr -f 'ESRI Shapefile' shape "$1/damage.geojson"
    quiet ogr2ogr -f CSV /vsistdout/ "$1/damage.gpkg" -sql \
        'SELECT count(*) AS n FROM layer_styles WHERE useAsDefault = 1 AND f_table_name = "buildings"' -dialect SQLite
    has '^"?1"?$' "$1/damage.gpkg default style"
    # No probability of more than three decimals leaves the program in a table.
    cut -d, -f4-9 "$1/damage.csv" >out.txt
    lacks '\.[0-9]{4}' "$1/damage.csv"
    grep -oE '"(p_[a-z]+|entropy)": *[0-9.e-]+' "$1/damage.geojson" >out.txt
    lacks '\.[0-9]{4}' "$1/damage.geojson"
}

check_geojson() { # FILE: RFC 7946 by an independent reader
    [ -n "$any_python" ] || return 0
    quiet "$any_python" - "$1" "$n" <<'PY'
import json, sys
doc = json.load(open(sys.argv[1]))
assert doc["type"] == "FeatureCollection" and "crs" not in doc and len(doc["bbox"]) == 4
assert set(doc["aftermap"]) >= {"version", "model", "event", "cut", "seed", "settings"}, doc["aftermap"]
assert len(doc["features"]) == int(sys.argv[2])
def area(ring):
    x0, y0 = ring[0]
    return sum((ax - x0) * (by - y0) - (bx - x0) * (ay - y0) for (ax, ay), (bx, by) in zip(ring, ring[1:])) / 2
for k, f in enumerate(doc["features"]):
    assert f["id"] == k + 1
    g = f["geometry"]
    for polygon in [g["coordinates"]] if g["type"] == "Polygon" else g["coordinates"]:
        for i, ring in enumerate(polygon):
            assert ring[0] == ring[-1] and len(ring) >= 4
            assert (area(ring) > 0) == (i == 0), "winding of feature %d" % f["id"]
            for x, y in ring:
                assert round(x, 7) == x and round(y, 7) == y
                assert doc["bbox"][0] <= x <= doc["bbox"][2] and doc["bbox"][1] <= y <= doc["bbox"][3]
PY
}

for model in two four; do
    map=map_$model
    "$aftermap" assess event --model $model.safetensors -o $map --tta 1 -q >/dev/null || fail "assess with $model"
    check_cog $map/damage.tif 1
    check_cog $map/prob.tif $([ $model = two ] && echo 3 || echo 5)
    quiet gdalinfo -json $map/damage.tif
    has '"colorTable"' $map
    has '"noDataValue": *255' $map
    has '"type": *"Byte"' $map
    quiet gdalinfo $map/damage.tif
    has '^ *254: unknown' $map
    has '^ *255: no imagery' $map
    quiet gdalinfo $map/prob.tif
    has 'NoData Value=nan' $map
    has 'Description = p_dmg' $map
    check_vectors $map
    check_geojson $map/damage.geojson
    # the digests in run.json are those of the files
    tr -d '\t\n' <$map/run.json | grep -oE '"name":"[^"]*","bytes":[0-9]*,"sha256":"[0-9a-f]{64}"' |
        sed -E 's/"name":"([^"]*)".*"sha256":"([0-9a-f]*)"/\2  \1/' >sums
    [ "$(wc -l <sums)" -eq 6 ] || fail "$map/run.json lists $(wc -l <sums) outputs"
    (cd $map && sha256sum --quiet -c ../sums) || fail "$map/run.json has wrong digests"
done

# 8-bit inference is a choice, shown, and refused where the CPU has no dot product for it.
expect 2 'VNNI' env AFTERMAP_KERNELS=baseline "$aftermap" assess event --model two.safetensors -o map_int8 --precision int8 -q
[ ! -e map_int8/run.json ] || fail 'a refused precision left a map'
if "$aftermap" assess event --model two.safetensors -o map_int8 --precision int8 --tta 1 -q >/dev/null 2>err.txt; then
    grep -q '"precision":[[:space:]]*"int8"' map_int8/run.json || fail 'run.json does not say int8'
    grep -q '"precision":[[:space:]]*"fp32"' map_two/run.json || fail 'run.json does not say fp32'
    moved=$(paste -d, <(cut -d, -f 1,8 map_two/damage.csv) <(cut -d, -f 1,8 map_int8/damage.csv) |
        awk -F, 'NR > 1 && ($1 != $3 || $2 - $4 > 0.03 || $4 - $2 > 0.03)' | wc -l)
    [ "$moved" -eq 0 ] || fail "8-bit inference moved $moved probabilities by more than 0.03"
else
    grep -q VNNI err.txt || fail "assess --precision int8: $(cat err.txt)"
fi

# The map says where the imagery is: at a building of every drawn class the raster holds that class.
quiet ogr2ogr -f CSV /vsistdout/ map_four/damage.gpkg -dialect SQLite -sql \
    'SELECT ST_X(c) AS x, ST_Y(c) AS y, l FROM (SELECT ST_PointOnSurface(geom) AS c, dmg_level AS l FROM buildings LIMIT 20)'
tail -n +2 out.txt | tr -d '"' | tr ',' ' ' >places
bad=0
while read -r x y level; do
    got=$(echo "$x $y" | gdallocationinfo -valonly -wgs84 map_four/damage.tif)
    [ "$got" -eq $((level + 1)) ] || bad=$((bad + 1))
done <places
[ -s places ] && [ "$bad" -le 1 ] || fail "$bad of $(wc -l <places) buildings have another class in damage.tif" # one may be overlapped

"$aftermap" evaluate map_two --truth event --json >score.json 2>/dev/null || fail 'evaluate'
for figure in auroc auprc f1 accuracy; do
    tr -d '\t\n ' <score.json | says -E "\"$figure\":\{\"value\":[^,]*,\"low\":[^,]*,\"high\":" || fail "evaluate --json has no $figure"
done
finish
