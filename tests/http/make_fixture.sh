#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A map folder as geo/mapping.h describes it, made with GDAL's own programs and awk only, so that the server's tests do not
# depend on the rest of the program: 35 x 35 square buildings of 5 m, 8 m apart, in UTM zone 33, ids b1..b1225, damage level
# (7 i + 3 j) mod 5 (4: unknown). The image before the event is 8-bit in UTM, the one after 16-bit in longitude/latitude.
# usage: make_fixture.sh DIR
set -euo pipefail
dir=$1
mkdir -p "$dir"
rm -f "$dir"/{damage,pre,post,prob}.* "$dir"/run.json
dir=$(cd "$dir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GDAL_PAM_ENABLED=NO

awk 'BEGIN {
    split("none minor major destroyed unknown", name, " ")
    print "{\"type\":\"FeatureCollection\",\"crs\":{\"type\":\"name\",\"properties\":{\"name\":\"urn:ogc:def:crs:EPSG::32633\"}},\"features\":["
    for (j = 0; j < 35; j++) for (i = 0; i < 35; i++) {
        n = 35 * j + i + 1; level = (7 * i + 3 * j) % 5
        x = 500010 + 8 * i; y = 5200010 + 8 * j
        p = (level * 0.3 + (n % 97) / 1000.0) + 0.00004
        status = level == 4 ? "unknown" : (n % 10 == 0 ? "abstain" : "ok")
        # Exterior rings run clockwise here: the server has to turn them.
        printf "%s{\"type\":\"Feature\",\"id\":%d,\"geometry\":{\"type\":\"Polygon\",\"coordinates\":[[[%d,%d],[%d,%d],[%d,%d],[%d,%d],[%d,%d]]]},\"properties\":{", \
            (n > 1 ? ",\n" : ""), n, x, y, x, y + 5, x + 5, y + 5, x + 5, y, x, y
        printf "\"bldg_id\":\"b%d\",\"dmg_class\":\"%s\",\"dmg_level\":%d,\"code\":%d,", n, name[level + 1], level == 4 ? -1 : level, level == 4 ? 254 : level + 1
        if (level == 4)
            printf "\"p_none\":null,\"p_minor\":null,\"p_major\":null,\"p_destr\":null,\"p_dmg\":null,\"entropy\":null,"
        else
            printf "\"p_none\":%.5f,\"p_minor\":%.5f,\"p_major\":%.5f,\"p_destr\":%.5f,\"p_dmg\":%.5f,\"entropy\":0.12345,", \
                1 - p, p / 4, p / 4, p / 2, p
        printf "\"status\":\"%s\",\"reason\":%s,\"lbl_src\":\"model\",\"area_m2\":25.0123,\"split\":\"test\",\"block\":%d,\"model_id\":\"m\",\"run_id\":\"r\",\"updated\":\"2024-05-%02d\"}}", \
            status, level == 4 ? "\"nodata\"" : "null", int(n / 100), 1 + n % 20
    }
    print "]}"
}' >"$work/utm.geojson"

ogr2ogr -q -f GPKG -nln buildings -t_srs EPSG:4326 -preserve_fid "$work/all.gpkg" "$work/utm.geojson"
fields=bldg_id,dmg_class,dmg_level,p_none,p_minor,p_major,p_destr,p_dmg,entropy,status,reason,lbl_src,area_m2,split,block,model_id,run_id,updated
ogr2ogr -q -f GPKG -nln buildings -preserve_fid -select $fields "$dir/damage.gpkg" "$work/all.gpkg"
ogr2ogr -q -f GeoJSON -lco RFC7946=YES "$dir/damage.geojson" "$dir/damage.gpkg"
ogr2ogr -q -f CSV "$dir/damage.csv" "$dir/damage.gpkg"

scene="500000 5200000 500300 5200300"
gdal_create -ot Byte -bands 3 -burn 90 -burn 120 -burn 80 -outsize 600 600 -a_srs EPSG:32633 \
    -a_ullr 500000 5200300 500300 5200000 "$work/pre.tif"
gdal_rasterize -q -b 1 -b 2 -b 3 -burn 190 -burn 90 -burn 70 "$work/utm.geojson" "$work/pre.tif"
cp "$work/pre.tif" "$work/post.tif"
gdal_rasterize -q -b 1 -b 2 -b 3 -where "dmg_class='destroyed'" -burn 60 -burn 55 -burn 50 "$work/utm.geojson" "$work/post.tif"
gdal_rasterize -q -b 1 -b 2 -b 3 -where "dmg_class='major'" -burn 120 -burn 110 -burn 100 "$work/utm.geojson" "$work/post.tif"
gdal_translate -q -of COG -mo TIFFTAG_DATETIME="2024:04:30 10:00:00" "$work/pre.tif" "$dir/pre.tif"
gdal_translate -q -ot UInt16 -scale 0 255 200 4000 "$work/post.tif" "$work/post16.tif"
gdalwarp -q -t_srs EPSG:4326 -dstnodata 0 -r near -co TILED=YES -co COMPRESS=DEFLATE "$work/post16.tif" "$dir/post.tif"

# Classes: 0 outside buildings, 255 along the western 10 m (no imagery there).
gdal_create -ot Byte -bands 1 -burn 0 -outsize 600 600 -a_srs EPSG:32633 -a_nodata 255 \
    -a_ullr 500000 5200300 500300 5200000 "$work/damage.tif"
gdal_rasterize -q -a code "$work/utm.geojson" "$work/damage.tif"
gdal_translate -q -of COG -co RESAMPLING=NEAREST "$work/damage.tif" "$dir/damage.tif"
gdal_create -ot Float32 -bands 5 -burn 0.5 -outsize 600 600 -a_srs EPSG:32633 -a_nodata nan \
    -a_ullr 500000 5200300 500300 5200000 "$work/prob.tif"
gdal_translate -q -of COG "$work/prob.tif" "$dir/prob.tif"

cat >"$dir/run.json" <<JSON
{"version": "0.1.0", "scene": "$scene",
 "inputs": {"pre": ["$dir/pre.tif"], "post": ["$dir/post.tif"]},
 "grid": {"epsg": 32633, "bbox4326": [15.0, 46.95, 15.004, 46.953]}}
JSON
