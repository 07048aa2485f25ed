# Unpacks a package of Debian or Ubuntu into the cache and does not install it: installing needs
# root, and starts services. Read by the scripts that print a folder of programs for tests.
# shellcheck shell=bash

cache=$(realpath -m "${XDG_CACHE_HOME:-$HOME/.cache}/pychrony")

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# unpack PACKAGE FOLDER PROGRAM...: leave the programs of the package, named by their paths below
# /usr, in the folder.
unpack() {
    local package=$1 folder=$2
    command -v dpkg >/dev/null || fail "${3##*/} is not here: install this distribution's $1 package"
    echo "${0##*/}: unpacking the $package package into $folder" >&2
    scratch=$(mktemp -d "$cache/$package.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    (cd "$scratch" && download "$package") ||
        fail "apt could not fetch the $package package, see above; installing it by hand will do"
    local file
    for file in "$scratch"/*.deb; do
        dpkg -x "$file" "$scratch/root"
    done
    place "$folder" "${@:3}"
}

# Into the current folder. apt's lists are private, so that this needs no root, and neither depends
# on the age of the machine's own lists nor changes them.
download() { # PACKAGE
    mkdir -p lists/partial cache/archives/partial
    local options=(-qq -o "Dir::State::Lists=$PWD/lists" -o "Dir::Cache=$PWD/cache"
        -o APT::Sandbox::User=root  # apt's own user may not enter the cache of root
        -o Acquire::Languages=none) # no translated descriptions
    # One failing source of several is no reason to stop: it is seldom the one with the package.
    apt-get "${options[@]}" update >&2 || true
    # A simulated installation names what is missing on this machine. Of the dependencies, only the
    # shared libraries are for the programs; the rest is for the service, or for its web pages.
    local packages
    packages=$(apt-get "${options[@]}" -s install --no-install-recommends "$1" |
        awk -v package="$1" '$1 == "Inst" && $2 !~ /^libjs-/ && ($2 == package || $2 ~ /^lib/) { print $2 }') || return
    # shellcheck disable=SC2086 # names of packages, one word each
    apt-get "${options[@]}" download $packages >&2
}

# Only now does anything get its final name, so that an interrupted run leaves no half of it.
place() { # FOLDER PROGRAM...
    local folder=$1 program
    mkdir "$scratch/lib"
    find "$scratch/root" -name 'lib*.so*' -exec mv -t "$scratch/lib" {} +
    rm -rf "${folder:?}"/{root,lib}
    mv "$scratch/root" "$scratch/lib" "$folder/"
    for program in "${@:2}"; do
        wrap "$folder" "$program"
    done
}

# The libraries that the machine lacks lie where no loader looks by itself.
wrap() { # FOLDER PROGRAM
    cat >"$scratch/wrapper" <<SCRIPT
#!/bin/sh
here=\${0%/*}
LD_LIBRARY_PATH=\$here/lib exec "\$here/root/usr/$2" "\$@"
SCRIPT
    chmod +x "$scratch/wrapper"
    mv "$scratch/wrapper" "$1/${2##*/}"
}
