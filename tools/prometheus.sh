#!/usr/bin/env bash
# Prints a folder with a prometheus and a promtool for tests, to be put first on PATH: the system's,
# or else the distribution's package, fetched once and only unpacked.
set -euo pipefail
# shellcheck source=tools/unpack.sh
. "${BASH_SOURCE[0]%/*}/unpack.sh"

folder=$cache/prometheus

main() {
    local prometheus
    if prometheus=$(command -v prometheus) && command -v promtool >/dev/null; then
        dirname "$prometheus"
        return
    fi
    provide prometheus "$folder" bin/prometheus bin/promtool
    echo "$folder"
}

main
