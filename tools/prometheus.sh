#!/usr/bin/env bash
# Prints a folder that holds a prometheus and a promtool for tests, to be put first on PATH: that of
# the system's, else the distribution's package, fetched once and only unpacked.
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
    mkdir -p "$folder"
    if ! works; then
        unpack prometheus "$folder" bin/prometheus bin/promtool
        works || fail "the prometheus in $folder does not run: $("$folder/prometheus" --version 2>&1)"
    fi
    echo "$folder"
}

works() {
    "$folder/prometheus" --version && "$folder/promtool" --version
} &>/dev/null

main
