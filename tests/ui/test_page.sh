#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The page in Debian's Chromium, headless, over the fixture of tests/http: what an analyst sees, clicks and reaches by
# keyboard. Skipped where there is no Chromium or the driver's package cannot be installed.
# KEEP_SCREENSHOTS=DIR keeps pictures to look at.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
chromium=$(command -v chromium || command -v chromium-browser) || { echo "chromium is not installed"; exit 77; }
command -v npm >/dev/null || { echo "npm is not installed"; exit 77; }
. "$here/../http/server.sh" "$1"
packages=$2/ui_test
mkdir -p "$packages"
cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$packages"
if ! cmp -s "$here/package-lock.json" "$packages/installed.json"; then
    (cd "$packages" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) || { echo "playwright-core cannot be installed"; exit 77; }
    cp "$here/package-lock.json" "$packages/installed.json"
fi
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
