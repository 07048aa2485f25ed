#!/usr/bin/env bash
# Builds the web site in build/site: the manual of main, or of COMMIT, at its root, and that of each of
# the newest releases in a folder. GitHub Pages replaces the whole site at each deployment, so all of it
# is built each time, each version by its own `tools/run docs`. The manuals link to each other.
# Pre-releases, and tags without that task, have no manual.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

kept=8 # releases: building one takes a minute or two
site=$PWD/build/site

main() { # [COMMIT]
    local tag version commits=("${1:-origin/main}") versions=(main)
    for tag in $(git tag --list 'v*' --sort=-version:refname | grep -xE 'v[0-9]+(\.[0-9]+){2}'); do
        if [[ ${#versions[@]} -le $kept ]] && git grep -q '^task_docs()' "$tag" -- tools/run; then
            commits+=("$tag")
            versions+=("${tag#v}")
        fi
    done
    rm -rf "$site"
    for version in "${!versions[@]}"; do
        build "${commits[version]}" "${versions[version]}" "${versions[@]}"
    done
    echo "the site: $site/index.html"
}

build() { # COMMIT VERSION VERSIONS...: build one manual, from a copy and in an environment of its own
    local other links=() up=../ folder=$site/$2 tree status=0
    [[ $2 == main ]] && up='' folder=$site
    for other in "${@:3}"; do
        [[ $other == "$2" ]] || links+=("$other=$up$other/index.html")
    done
    links=("${links[@]/%main\/index.html/index.html}")
    tree=$(mktemp -d)/pychrony
    git worktree add --quiet --detach "$tree" "$1"
    echo "the manual of $2" >&2
    (cd "$tree" && env -u PYCHRONY_ENV -u PYCHRONY_VENV PYCHRONY_OTHER_MANUALS="${links[*]}" \
        tools/run docs && mkdir -p "$folder" && cp -r build/docs/html/. "$folder") || status=$?
    git worktree remove --force "$tree"
    if [[ $status != 0 ]]; then
        echo "${0##*/}: building the manual of $1 failed, see above" >&2
        exit 1
    fi
}

main "$@"
