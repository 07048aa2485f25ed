#!/usr/bin/env bash
# Prints a folder that holds a chronyd and a chronyc for tests, to be put first on PATH: copies of
# the system's, else the distribution's package, fetched once and only unpacked. Installing it would
# remove the time service that the machine already has, or give it one that it did not have.
set -euo pipefail
# shellcheck source=tools/unpack.sh
. "${BASH_SOURCE[0]%/*}/unpack.sh"

folder=$cache/chrony

main() {
    mkdir -p "$folder"
    local chronyd chronyc
    # Distributions put daemons where an ordinary user's PATH does not look.
    local PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
    if chronyd=$(command -v chronyd) && chronyc=$(command -v chronyc) &&
        [[ $chronyd != "$folder"/* ]]; then
        # AppArmor and SELinux know chronyd by its path, and confine it to the machine's own
        # configuration: the original could not read that of a test.
        install -C "$chronyd" "$chronyc" "$folder/"
    elif ! works; then
        unpack chrony "$folder" sbin/chronyd bin/chronyc
        works || fail "the chronyd in $folder does not run: $("$folder/chronyd" --version 2>&1)"
    fi
    echo "$folder"
}

works() {
    "$folder/chronyd" --version && "$folder/chronyc" --version
} &>/dev/null

main
