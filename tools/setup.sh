# Installs what the tasks of tools/run need, with one function each. tools/run sources it in the
# project's folder.
# shellcheck shell=bash
#
# PYTHON=...          make the virtual environment with this Python instead of the newest one
# PYCHRONY_VENV=...   make it in this folder instead of .venv

venv=$(realpath -m "${PYCHRONY_VENV:-.venv}")

# Editable: only a change of what the build makes, or of the metadata, requires a new installation.
setup_package() {
    setup_venv
    pip_install package pyproject.toml src/pychrony/{models.py,_io/*.[ch],_io/build.py} -- --editable .
}

setup_group() { # NAME: the packages of a dependency group
    setup_venv
    pip_install "$1" pyproject.toml -- --group "$1"
}

setup_man() {
    command -v man >/dev/null || apt_install 'man is missing, which checks the man page' man-db
}

setup_chronyd() {
    local folder
    folder=$(tools/chronyd.sh)
    PATH=$folder:$PATH
}

setup_prometheus() {
    local folder
    folder=$(tools/prometheus.sh)
    PATH=$folder:$PATH
}

setup_systemd() { # only its tools
    command -v systemd-analyze >/dev/null || apt_install 'systemd-analyze is missing' systemd
}

setup_libchrony() {
    [[ -n ${PYCHRONY_LIBCHRONY:-} ]] && return
    setup_venv # for its pip
    PYCHRONY_LIBCHRONY=$(python tools/libchrony.py)
    export PYCHRONY_LIBCHRONY
}

setup_clang() { # and its fuzzer
    local library
    library=$(clang -print-file-name="libclang_rt.fuzzer-$(uname -m).a" 2>/dev/null) || true
    [[ -f $library ]] || apt_install 'clang or its libFuzzer is missing' clang libclang-rt-dev
}

setup_chromium() { # or Chrome, which takes the same commands
    local program
    for program in chromium chromium-browser google-chrome; do
        command -v "$program" >/dev/null && return
    done
    apt_install 'a browser for the tests of the manual is missing' chromium
}

setup_venv() {
    venv_is_current || make_venv
    PATH=$venv/bin:$PATH
}

venv_is_current() {
    # Its scripts contain its path: a copy would run the programs of the original.
    [[ -f $venv/made-in && $(<"$venv/made-in") == "$venv" ]] || return
    local ours
    ours=$(describe "$venv/bin/python") && [[ -z ${PYTHON:-} || $(describe "$PYTHON") == "$ours" ]]
}

describe() {
    "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null
}

make_venv() {
    install_missing
    local python
    python=$(find_python) || fail "cannot use ${PYTHON:-any Python here}:" \
        "it takes 3.10 or later, with the venv module and the C headers"
    say "making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet 'pip>=25.1' # the first with --group
    echo "$venv" >"$venv/made-in"
}

# Print the newest Python that can make an environment and compile for it.
find_python() {
    local python pythons
    mapfile -t pythons < <(compgen -c python3 | grep -x 'python3\.[0-9]*' | sort -Vru)
    [[ -z ${PYTHON:-} ]] || pythons=("$PYTHON")
    for python in "${pythons[@]}"; do
        is_usable "$python" && echo "$python" && return
    done
    return 1
}

is_usable() {
    "$1" - <<'SCRIPT' &>/dev/null
import ensurepip, os, sys, sysconfig, venv
headers = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(sys.version_info < (3, 10) or not os.path.exists(headers))
SCRIPT
}

install_missing() {
    local packages=()
    command -v "${CC:-cc}" >/dev/null || packages+=(gcc libc6-dev)
    [[ -n ${PYTHON:-} ]] || find_python >/dev/null || packages+=(python3-venv python3-dev)
    [[ ${#packages[@]} == 0 ]] && return
    apt_install "a C compiler, or a Python from 3.10 on with venv and C headers, is missing" \
        "${packages[@]}"
}

apt_install() { # WHY PACKAGE...
    if [[ $EUID != 0 ]] || ! command -v apt-get >/dev/null; then
        fail "$1; on Debian and Ubuntu: apt-get install ${*:2}"
    fi
    say "installing ${*:2}"
    apt-get -qq update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${@:2}" >&2
}

# pip_install NAME FILE... -- ARGUMENT...: run pip install ARGUMENT..., unless that was already done
# in this environment, for this folder, with the same files. A file NAME in the environment notes it.
pip_install() {
    local stamp=$venv/installed-$1 files=() state
    shift
    while [[ $1 != -- ]]; do
        files+=("$1")
        shift
    done
    shift
    state=$(pwd; sha256sum "${files[@]}")
    [[ -f $stamp && $(<"$stamp") == "$state" ]] && return
    say "installing $* into $venv"
    python -m pip install --quiet "$@"
    echo "$state" >"$stamp"
}

say() {
    echo "tools/run: $*" >&2
}

fail() {
    say "$@"
    exit 1
}
