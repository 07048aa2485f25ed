#!/usr/bin/env bash
# Prints folders with prometheus, promtool, alertmanager and amtool for tests, to be put first on PATH:
# the system's, or else the distribution's packages, fetched once and only unpacked.
set -euo pipefail
# shellcheck source=tools/unpack.sh
. "${BASH_SOURCE[0]%/*}/unpack.sh"

main() {
    local prometheus amtool
    if prometheus=$(command -v prometheus) && command -v promtool >/dev/null; then
        prometheus=$(dirname "$prometheus")
    else
        prometheus=$cache/prometheus
        (provide prometheus "$prometheus" bin/prometheus bin/promtool)
    fi
    if amtool=$(command -v amtool) && command -v alertmanager prometheus-alertmanager >/dev/null; then
        amtool=$(dirname "$amtool")
    else
        amtool=$cache/alertmanager
        (provide prometheus-alertmanager "$amtool" bin/amtool bin/prometheus-alertmanager)
    fi
    echo "$prometheus:$amtool"
}

main
