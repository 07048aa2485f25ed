# Unpacks packages of Debian or Ubuntu into the cache without installing them, since that would need
# root and start services. Sourced by the scripts that print a folder of programs for tests.
# shellcheck shell=bash

cache=$(realpath -m "${XDG_CACHE_HOME:-$HOME/.cache}/pychrony")

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Put programs of a package, named by their paths below /usr, into the folder, unless they already run
# there.
provide() { # PACKAGE FOLDER PROGRAM...
    local package=$1 folder=$2 name=${3##*/}
    mkdir -p "$folder"
    run_all "$folder" "${@:3}" && return
    unpack "$@"
    run_all "$folder" "${@:3}" ||
        fail "the $name in $folder does not run: $("$folder/$name" --version 2>&1)"
}

run_all() { # FOLDER PROGRAM...
    local program
    for program in "${@:2}"; do
        "$1/${program##*/}" --version || return
    done
} &>/dev/null

unpack() { # PACKAGE FOLDER PROGRAM...
    local package=$1 folder=$2
    command -v dpkg >/dev/null || fail "${3##*/} is missing: install this distribution's $1 package"
    echo "${0##*/}: unpacking the $package package into $folder" >&2
    scratch=$(mktemp -d "$cache/$package.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    (cd "$scratch" && download "$package") ||
        fail "apt could not fetch the $package package, see above; you can also install it yourself"
    local file
    for file in "$scratch"/*.deb; do
        dpkg -x "$file" "$scratch/root"
    done
    place "$folder" "${@:3}"
}

# Download into the current folder, with private lists of packages: this needs no root, does not
# depend on the age of the machine's lists, and does not change them.
download() { # PACKAGE
    mkdir -p lists/partial cache/archives/partial
    local options=(-qq -o "Dir::State::Lists=$PWD/lists" -o "Dir::Cache=$PWD/cache"
        -o APT::Sandbox::User=root  # apt's own user may not enter the cache of root
        -o Acquire::Languages=none) # no translated descriptions
    # Continue if one of several sources fails: it seldom is the one with the package.
    apt-get "${options[@]}" update >&2 || true
    # A simulated installation names what this machine lacks. Of the dependencies, the programs need
    # only the shared libraries; the others are for the service or its web pages.
    local packages
    packages=$(apt-get "${options[@]}" -s install --no-install-recommends "$1" |
        awk -v package="$1" '$1 == "Inst" && $2 !~ /^libjs-/ && ($2 == package || $2 ~ /^lib/) { print $2 }') || return
    # shellcheck disable=SC2086 # names of packages, one word each
    apt-get "${options[@]}" download $packages >&2
}

# Move everything to its final name last, so that an interrupted run leaves nothing half done.
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

# Run a program with the libraries beside it, where the dynamic loader does not look by default.
wrap() { # FOLDER PROGRAM
    cat >"$scratch/wrapper" <<SCRIPT
#!/bin/sh
here=\${0%/*}
LD_LIBRARY_PATH=\$here/lib exec "\$here/root/usr/$2" "\$@"
SCRIPT
    chmod +x "$scratch/wrapper"
    mv "$scratch/wrapper" "$1/${2##*/}"
}
