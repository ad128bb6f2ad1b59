#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The whole flow in Debian's Chromium over the real server: from two images and outlines of a SYNTHETIC town to the printed
# report, the scene's own truth answering for the analyst; test_real.mjs says what is checked. The server is killed in the
# middle. Skipped where there is no Chromium, the packages cannot be installed, or the program was built without the page.
# KEEP_SCREENSHOTS=DIR keeps pictures to look at. REAL_SCENE=DIR takes pre.tif, post.tif, footprints.* and truth.csv (bldg_id,
# class) from there; REAL_LABELS=N labels that many, REAL_SAMPLE=N judges that many blindly, REAL_STEPS=N trains that long,
# REAL_WAIT=1 waits for the server's own training instead of stopping it, REAL_TIMEOUT=S ends it all.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/packages.sh" "$2"
[ -f "$2/web_ui/dist/app.js.gz" ] || { echo "the program was built without the page (AM_UI=OFF)"; exit 77; }
[ -x "$2/aftermap-scene" ] || { echo "no aftermap-scene: nothing to look at"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/data/scenes"
if [ -n "${REAL_SCENE:-}" ]; then
    cp "$REAL_SCENE"/{pre.tif,post.tif,footprints.*} "$work/data/scenes" && cp "$REAL_SCENE/truth.csv" "$work" || exit 1
else
    "$2/aftermap-scene" --seed 9 --size-px 800 --buildings 130 --quiet -o "$work/scene" || exit 1
    cp "$work"/scene/{pre.tif,post.tif,footprints.gpkg} "$work/data/scenes"
    ogr2ogr -f CSV "$work/truth.csv" "$work/scene/footprints.gpkg" -select bldg_id,damage || exit 1
fi
cp "$here/test_real.mjs" "$packages"
cd "$packages" && OMP_WAIT_POLICY=passive timeout "${REAL_TIMEOUT:-540}" node test_real.mjs "$1" "$work" "$chromium" "${KEEP_SCREENSHOTS:-}"
