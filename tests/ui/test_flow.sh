#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The page's whole flow in Debian's Chromium, headless, over a stand-in server: test_flow.mjs says what. Skipped where there is
# no Chromium, the packages cannot be installed, or the program was built without the page.
# KEEP_SCREENSHOTS=DIR keeps pictures to look at.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/packages.sh" "$2"
dist=$2/web_ui/dist
[ -f "$dist/app.js.gz" ] || { echo "the program was built without the page (AM_UI=OFF)"; exit 77; }
cp "$here/mock_server.mjs" "$here/test_flow.mjs" "$packages"
cd "$packages" && timeout 300 node test_flow.mjs "$dist" "$here/../../web/ui/src" "$chromium" "${KEEP_SCREENSHOTS:-}"
