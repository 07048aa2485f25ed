#!/usr/bin/env bash
# Prints a folder with a chronyd and a chronyc for tests, to be put first on PATH: copies of the
# system's, or else the distribution's package, fetched once and only unpacked. Installing it would
# replace the machine's time service, or start one.
set -euo pipefail
# shellcheck source=tools/unpack.sh
. "${BASH_SOURCE[0]%/*}/unpack.sh"

folder=$cache/chrony

main() {
    mkdir -p "$folder"
    local chronyd chronyc
    # Daemons are not always on an ordinary user's PATH.
    local PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
    if chronyd=$(command -v chronyd) && chronyc=$(command -v chronyc) &&
        [[ $chronyd != "$folder"/* ]]; then
        # AppArmor and SELinux confine chronyd, by its path, to the machine's own configuration. The
        # original could not read the configuration of a test.
        install -C "$chronyd" "$chronyc" "$folder/"
    else
        provide chrony "$folder" sbin/chronyd bin/chronyc
    fi
    echo "$folder"
}

main
