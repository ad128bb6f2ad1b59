# SPDX-License-Identifier: Apache-2.0
# Sourced by the page's tests as `. packages.sh BUILD_DIR`: sets `chromium` and `packages`, a folder in the build tree with the
# packages of package-lock.json installed; ends the test as skipped where either is not to be had.
chromium=$(command -v chromium || command -v chromium-browser) || { echo "chromium is not installed"; exit 77; }
command -v npm >/dev/null || { echo "npm is not installed"; exit 77; }
packages=$1/ui_test
mkdir -p "$packages"
(
    flock 9
    if ! cmp -s "$here/package-lock.json" "$packages/installed.json"; then
        cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$packages"
        (cd "$packages" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) || exit 1
        cp "$here/package-lock.json" "$packages/installed.json"
    fi
) 9>"$packages/lock" || { echo "the packages cannot be installed"; exit 77; }
