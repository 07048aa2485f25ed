"""Tests the build hook: what it compiles, checks and refuses, and the tags of wheels."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import pychrony._io.failures as failures
from pychrony import FieldContent, FieldType
from pychrony._model._descriptions import DESCRIPTIONS

SOURCES = Path(__file__).parents[1] / "src" / "pychrony" / "_io"

pytestmark = pytest.mark.skipif(
    not SOURCES.is_dir(), reason="the installed package is tested, without its sources"
)

ERRORS = [
    "OK",
    "NO_MEMORY",
    "NO_RANDOM",
    "UNKNOWN_REPORT",
    "RANDOM_FAILED",
    "SEND_FAILED",
    "RECV_FAILED",
    "INVALID_ARGUMENT",
    "UNEXPECTED_CALL",
    "UNAUTHORIZED",
    "DISABLED",
    "UNEXPECTED_STATUS",
    "OLD_SERVER",
    "NEW_SERVER",
    "INVALID_RESPONSE",
]
ENUMS = {
    "chrony_err": [f"CHRONY_{name}" for name in ERRORS],
    "chrony_field_type": [f"CHRONY_TYPE_{kind.name}" for kind in FieldType],
    "chrony_field_content": [f"CHRONY_CONTENT_{content.name}" for content in FieldContent],
}
# As in libchrony 0.1 and 0.2.
DECLARATIONS = """\
int chrony_open_socket(const char *address);
void chrony_close_socket(int fd);
const char *chrony_get_error_string(chrony_err e);
chrony_err chrony_init_session(chrony_session **s, int fd);
void chrony_deinit_session(chrony_session *s);
int chrony_get_fd(chrony_session *s);
bool chrony_needs_response(chrony_session *s);
chrony_err chrony_process_response(chrony_session *s);
int chrony_get_number_supported_reports(void);
const char *chrony_get_report_name(int report);
chrony_err chrony_request_report_number_records(chrony_session *s, const char *report_name);
int chrony_get_report_number_records(chrony_session *s);
chrony_err chrony_request_record(chrony_session *s, const char *report_name, int record);
int chrony_get_record_number_fields(chrony_session *s);
const char *chrony_get_field_name(chrony_session *s, int field);
int chrony_get_field_index(chrony_session *s, const char *name);
chrony_field_type chrony_get_field_type(chrony_session *s, int field);
chrony_field_content chrony_get_field_content(chrony_session *s, int field);
uint64_t chrony_get_field_uinteger(chrony_session *s, int field);
int64_t chrony_get_field_integer(chrony_session *s, int field);
double chrony_get_field_float(chrony_session *s, int field);
struct timespec chrony_get_field_timespec(chrony_session *s, int field);
const char *chrony_get_field_string(chrony_session *s, int field);
const char *chrony_get_field_constant_name(chrony_session *s, int field, uint64_t value);
"""


def header(first: int = 0) -> str:
    """What libchrony's `chrony.h` declares; `first` is the number that its enums begin with."""
    enums = [
        f"typedef enum {{ {', '.join(f'{n} = {v}' for v, n in enumerate(names, first))} }} {enum};"
        for enum, names in ENUMS.items()
    ]
    lines = [f"#include <{name}.h>" for name in ("stdbool", "stdint", "time")]
    lines += ["typedef struct chrony_session_t chrony_session;", *enums, DECLARATIONS]
    return "\n".join(lines)


def compile_shim(folder: Path, *flags: str) -> str:
    """Compile the shim with the headers in a folder; return what the compiler said."""
    compiler = os.environ.get("CC", "cc").split()
    flags = ("-std=gnu11", "-fPIC", f"-I{folder}", f"-I{SOURCES}", *flags)
    files = map(str, sorted(SOURCES.glob("*.c")))
    return "".join(
        subprocess.run(
            [*compiler, *flags, "-c", file, "-o", os.devnull],
            capture_output=True,
            text=True,
            timeout=300,
        ).stderr
        for file in files
    )


@pytest.mark.parametrize("headers", [[], ["chrony.h"]], ids=["without libchrony", "with chrony.h"])
def test_the_shim_compiles_without_a_warning(headers: list[str], tmp_path: Path) -> None:
    for name in headers:
        (tmp_path / name).write_text(header())
    warnings = ("-Wall", "-Wextra", "-Wconversion", "-Werror", "-O2")
    assert compile_shim(tmp_path, *warnings) == ""


def test_each_declaration_that_differs_from_the_header_stops_the_compiler(tmp_path: Path) -> None:
    others = {
        "chrony_open_socket": ("const char *address", "char *address"),
        "chrony_init_session": ("chrony_session **s, int fd", "int fd"),
        "chrony_get_field_uinteger": ("uint64_t chrony_get", "uint32_t chrony_get"),
        "chrony_get_field_constant_name": ("uint64_t value", "int64_t value"),
        "chrony_close_socket": ("void chrony_close_socket", "int chrony_close_socket"),
    }
    declarations = header()
    for declaration, other in others.values():
        assert declaration in declarations
        declarations = declarations.replace(declaration, other)
    (tmp_path / "chrony.h").write_text(declarations)
    said = compile_shim(tmp_path, "-fsyntax-only")
    assert set(re.findall(r"error: conflicting types for \W(\w+)", said)) == set(others)


def test_every_number_that_differs_from_the_header_stops_the_compiler(tmp_path: Path) -> None:
    (tmp_path / "chrony.h").write_text(header(first=1))
    said = compile_shim(tmp_path, "-fsyntax-only")
    refused = set(re.findall(r'static assertion failed.*"(CHRONY_\w+)"', said))
    used = {name for names in ENUMS.values() for name in names}
    used -= {f"CHRONY_{name}" for name in ("UNKNOWN_REPORT", "INVALID_ARGUMENT", "UNEXPECTED_CALL")}
    assert refused == used


def test_python_knows_the_same_numbers() -> None:
    ours = {name: getattr(failures, name) for name in ERRORS if hasattr(failures, name)}
    assert ours == {name: ERRORS.index(name) for name in ours}
    assert len(ours) == 9
    assert [kind.value for kind in FieldType] == list(range(6))
    assert [content.value for content in FieldContent] == list(range(21))


HOOK = """
import json, sys, sysconfig
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
spec = spec_from_file_location("build_hook", sys.argv[1])
module = module_from_spec(spec)
spec.loader.exec_module(module)
from types import SimpleNamespace
metadata = SimpleNamespace(version="1.2.3")
hook = module.ShimBuildHook("", {}, None, metadata, "", "wheel")
exec(sys.argv[2])
wheel = {"force_include": {}}
hook.initialize("standard", wheel)
made = {target: source for source, target in wheel.pop("force_include").items()}
wheel["descriptions"] = Path(made.pop("pychrony/_model/_descriptions.py")).read_text()
version = Path(made.pop("pychrony/_version.py")).read_text()
assert version == '__version__ = "1.2.3"\\n'
((place, extension),) = made.items()
content = Path(extension).read_bytes()
hook.finalize("standard", wheel, "")
wheel |= {"place": place, "left": Path(extension).exists(), "has": b"PyInit__shim" in content}
print(json.dumps(wheel | {"links": b"libchrony.so" in content}))
"""


def build(before: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the build hook for a wheel, as hatchling does."""
    line = [sys.executable, "-c", HOOK, str(SOURCES / "build.py"), before]
    environment = os.environ | variables
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)


def test_the_build_hook_makes_one_wheel_for_all_versions_of_python(tmp_path: Path) -> None:
    (tmp_path / "chrony.h").write_text(header())
    done = build(CPPFLAGS=f"-I{tmp_path}", CFLAGS="-Werror -O0")
    assert done.stderr == ""
    wheel = json.loads(done.stdout.splitlines()[-1])
    made: dict[str, object] = {}
    exec(wheel.pop("descriptions"), made)
    assert made["DESCRIPTIONS"] == DESCRIPTIONS
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        tag = {
            "infer_tag": True,
            "place": f"pychrony/_io/_shim{sysconfig.get_config_var('EXT_SUFFIX')}",
        }
    else:
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        tag = {"tag": f"cp310-abi3-{platform}", "place": "pychrony/_io/_shim.abi3.so"}
    assert wheel == tag | {"pure_python": False, "left": False, "has": True, "links": False}


@pytest.mark.parametrize("variable", ["CFLAGS", "CPPFLAGS"])
def test_flags_of_the_caller_take_precedence_without_a_warning(variable: str) -> None:
    done = build(**{variable: "-O2 -Werror -D_FORTIFY_SOURCE=3"})
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("before", "needed"),
    [
        ("sys.platform = 'darwin'", "needs Linux, where chronyd runs; this is darwin"),
        ("sys.maxsize = 2**31 - 1", "needs a 64-bit Python; this one is 32-bit"),
        ("sys.version_info = (3, 9, 18)", "needs Python 3.10 or later; this is 3.9"),
        ("sys.implementation.name = 'pypy'", "CPython"),
    ],
)
def test_a_platform_that_cannot_run_it_is_told_so(before: str, needed: str) -> None:
    done = build(before, CC="/nonexistent/cc")
    assert done.returncode == 1
    assert needed in done.stderr
    assert done.stderr.count("\n") == 1
