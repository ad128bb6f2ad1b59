#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The engine against PyTorch, alternately in one run: compare.sh BUILD_DIR [compare.py's options].
# Installs Debian's python3-torch when it is missing (as root).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || {
    echo "usage: compare.sh BUILD_DIR [--rounds N] [--seconds S] [--threads N] [--avx2] [--layers] [--json] [ROW...]" >&2
    exit 2
}
program=$1/tests/bench/bench_compare
shift
[ -x "$program" ] || {
    echo "compare: $program is missing; build the target bench_compare first" >&2
    exit 2
}
if ! /usr/bin/python3 -c 'import torch' 2>/dev/null; then
    echo "compare: installing python3-torch" >&2
    apt-get install -y --no-install-recommends python3-torch >&2
fi
exec /usr/bin/python3 "$here/compare.py" --program "$program" "$@"
