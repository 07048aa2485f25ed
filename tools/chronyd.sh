#!/usr/bin/env bash
# Prints a folder that holds a chronyd and a chronyc for tests, to be put first on PATH: copies of
# the system's, else the distribution's package, fetched once. The package is unpacked into the
# cache and not installed: installing it needs root, removes the time service that the machine
# already has, or gives it one that it did not have.
set -euo pipefail

cache=$(realpath -m "${XDG_CACHE_HOME:-$HOME/.cache}/pychrony")
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
        unpack_package
        works || fail "the chronyd in $folder does not run: $("$folder/chronyd" --version 2>&1)"
    fi
    echo "$folder"
}

fail() {
    echo "chronyd.sh: $*" >&2
    exit 1
}

works() {
    "$folder/chronyd" --version && "$folder/chronyc" --version
} &>/dev/null

unpack_package() {
    command -v dpkg >/dev/null ||
        fail "no chronyd and chronyc here: install this distribution's chrony package"
    echo "chronyd.sh: unpacking the chrony package into $folder" >&2
    scratch=$(mktemp -d "$cache/chrony.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    (cd "$scratch" && download) ||
        fail "apt could not fetch the chrony package, see above; installing it by hand will do"
    local package
    for package in "$scratch"/*.deb; do
        dpkg -x "$package" "$scratch/root"
    done
    place
}

# Into the current folder. apt's lists are private, so that this needs no root, and neither depends
# on the age of the machine's own lists nor changes them.
download() {
    mkdir -p lists/partial cache/archives/partial
    local options=(-qq -o "Dir::State::Lists=$PWD/lists" -o "Dir::Cache=$PWD/cache"
        -o APT::Sandbox::User=root  # apt's own user may not enter the cache of root
        -o Acquire::Languages=none) # no translated descriptions
    # One failing source of several is no reason to stop: it is seldom the one with chrony.
    apt-get "${options[@]}" update >&2 || true
    # A simulated installation names what is missing on this machine. Of chrony's dependencies, the
    # programs are for its service and only the libraries for the daemon.
    local packages
    packages=$(apt-get "${options[@]}" -s install --no-install-recommends chrony |
        awk '$1 == "Inst" && $2 ~ /^(chrony$|lib)/ { print $2 }') || return
    # shellcheck disable=SC2086 # names of packages, one word each
    apt-get "${options[@]}" download $packages >&2
}

# Only now does anything get its final name, so that an interrupted run leaves no half of it.
place() {
    mkdir "$scratch/lib"
    find "$scratch/root" -name 'lib*.so*' -exec mv -t "$scratch/lib" {} +
    rm -rf "${folder:?}"/{root,lib}
    mv "$scratch/root" "$scratch/lib" "$folder/"
    wrap sbin/chronyd
    wrap bin/chronyc
}

# The libraries that the machine lacks lie where no loader looks by itself.
wrap() {
    cat >"$scratch/wrapper" <<SCRIPT
#!/bin/sh
here=\${0%/*}
LD_LIBRARY_PATH=\$here/lib exec "\$here/root/usr/$1" "\$@"
SCRIPT
    chmod +x "$scratch/wrapper"
    mv "$scratch/wrapper" "$folder/${1##*/}"
}

main
