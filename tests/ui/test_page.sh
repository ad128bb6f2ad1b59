#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The page in Debian's Chromium, headless, over the fixture of tests/http: what an analyst sees, clicks and reaches by
# keyboard. Skipped where there is no Chromium or the driver's package cannot be installed.
# KEEP_SCREENSHOTS=DIR keeps pictures to look at.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/packages.sh" "$2"
. "$here/../http/server.sh" "$1"
bash "$here/../http/make_fixture.sh" "$work/demo" || exit 1
mkdir "$work/bare"
cp "$work/demo"/damage.* "$work/bare"
echo '{"version": "0.1.0", "inputs": {"pre": ["/nowhere/pre.tif"], "post": []}}' >"$work/bare/run.json"
start_server "$work/demo" "$work/bare"
if ! curl -s -H 'Accept: text/html' "$base/" | grep -q app.js; then
    echo "the program was built without the page (AM_UI=OFF)"
    exit 77
fi
cp "$here/test_page.mjs" "$packages"
cd "$packages" && timeout 240 node test_page.mjs "$base" "$chromium" "$work/profile" "${KEEP_SCREENSHOTS:-}"
