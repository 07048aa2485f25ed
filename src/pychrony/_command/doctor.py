"""Diagnoses a machine and suggests fixes: `pychrony doctor`."""

from __future__ import annotations

import os
import platform
import pwd
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from .._io.address import local_places
from .._io.failures import is_off
from .._io.library import VARIABLE, Attempt, library_path, search
from .._version import __version__
from ..exceptions import ChronyError, ChronyLibraryError, ChronyTimeoutError
from ..many import get_many
from ..models import MODELS, Answer
from .arguments import Parser, add_address, add_json, add_timeout
from .exits import exit_code
from .grid import wrapped
from .render import as_json
from .screen import width, write

PROFILES = "/etc/apparmor.d"
PROFILE = "usr.sbin.chronyd"
TOO_NARROW, WIDE = "@{run}/chrony/{,*} rw", "@{run}/chrony/{,**} rw"
"""Rules for chronyd's folder alone, and with the folders below, where libchrony's sockets are."""


ABOUT = """\
Diagnose this machine and suggest fixes: show which libchrony is used, where chronyd
answers, and which reports this user can read there.
"""

EPILOG = """\
exit codes:
  0  chronyd answers at one address or more
  1  chronyd cannot be reached or does not answer
  2  the command line is wrong
  3  this user is not allowed to ask chronyd
  5  libchrony cannot be found or used
"""


def run(argv: Sequence[str]) -> int:
    """Run the subcommand, and return its exit code."""
    options = _parser().parse(argv)
    diagnosis = examine(options.address, options.timeout)
    write(as_json(diagnosis) if options.json else "\n".join(lines_of(diagnosis)))
    return exit_code(diagnosis.problem) if diagnosis.problem else 0


def _parser() -> Parser:
    parser = Parser(prog="pychrony doctor", description=ABOUT, epilog=EPILOG)
    add_address(parser)
    add_timeout(parser)
    add_json(parser, "the diagnosis")
    return parser


@dataclass
class Visit:
    """An address, and what this user can read there."""

    address: str
    error: ChronyError | None = None
    """Why chronyd cannot be reached there."""
    readable: list[str] = field(default_factory=list)
    """Reports that can be read."""
    off: list[str] = field(default_factory=list)
    """Reports that are turned off in this chronyd."""
    untried: list[str] = field(default_factory=list)
    """Reports that were not asked for, because chronyd has no sources of that kind."""
    unreadable: dict[str, ChronyError] = field(default_factory=dict)
    """Reports that cannot be read, each with the error."""


@dataclass
class Diagnosis:
    """What `doctor` has found."""

    pychrony: str
    python: str
    user: str
    library: str | None
    attempts: list[Attempt]
    places: list[Visit] = field(default_factory=list)
    problem: ChronyError | None = None
    """Why no report can be read, if none can."""
    hint: str = ""
    """What is likely to keep chronyd from answering at its Unix socket, and what to do about it."""


def examine(address: str | None, timeout: float | None) -> Diagnosis:
    """Look for libchrony, and read every report at an address, by default at each local one."""
    attempts = search()
    python = f"{platform.python_version()} ({sys.executable})"
    found = Diagnosis(__version__, python, _user(), None, attempts)
    try:
        found.library = library_path()
    except ChronyLibraryError as error:
        found.problem = error
        return found
    places = local_places() if address is None else [address]
    answers = {answer.address: answer for answer in get_many(places, timeout=timeout)}
    found.places = [_visit(answers[place]) for place in places]
    errors = [visit.error for visit in found.places]
    found.problem = errors[0] if all(errors) else None
    if isinstance(errors[0], ChronyTimeoutError) and not all(errors) and _is_confined():
        found.hint = (
            "AppArmor's profile is likely to keep chronyd from answering at the socket; add the "
            f"line '{WIDE},' to {PROFILES}/local/{PROFILE}, and run 'apparmor_parser -r "
            f"{PROFILES}/{PROFILE}'"
        )
    return found


def _is_confined() -> bool:
    """Whether AppArmor's profile of chronyd leaves out the folders of libchrony's sockets."""
    rules = ""
    for path in (f"{PROFILES}/{PROFILE}", f"{PROFILES}/local/{PROFILE}"):
        with suppress(OSError), open(path) as profile:
            rules += profile.read()
    return TOO_NARROW in rules and WIDE not in rules


def _visit(answer: Answer) -> Visit:
    visit = Visit(answer.address, answer.error)
    for name in MODELS if answer.reports else ():
        missing = answer.result().missing.get(name)
        if missing is None and getattr(answer.reports, name) == []:
            visit.untried.append(name)
        elif missing is None:
            visit.readable.append(name)
        elif is_off(name, missing):
            visit.off.append(name)
        else:
            visit.unreadable[name] = missing
    return visit


def _user() -> str:
    number = os.geteuid()
    try:
        return f"{pwd.getpwuid(number).pw_name} (uid {number})"
    except KeyError:
        return f"uid {number}"


def lines_of(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield the lines of a diagnosis."""
    yield f"pychrony   {diagnosis.pychrony}"
    yield f"Python     {diagnosis.python}"
    yield f"user       {diagnosis.user}"
    yield f"libchrony  {diagnosis.library or 'not found'}"
    for path, why_not in diagnosis.attempts:
        origin = f" ({VARIABLE})" if path == os.environ.get(VARIABLE) else ""
        yield _item(f"{path}{origin}", why_not.removeprefix(f"{path}: ") or "loaded")
    if diagnosis.library is None and diagnosis.problem is not None:
        yield _item("to do", diagnosis.problem._advice)
    for visit in diagnosis.places:
        yield ""
        yield from _lines_of_visit(visit)
    if diagnosis.hint:
        yield ""
        yield _item("to do", diagnosis.hint)


def _lines_of_visit(visit: Visit) -> Iterator[str]:
    yield f"chronyd at {visit.address}: {'no' if visit.error else 'yes'}"
    if visit.error:
        yield wrapped(visit.error._reason, width(), "  ", 4)
    if visit.readable:
        yield _item("readable", " ".join(visit.readable))
    if visit.untried:
        yield _item("not tried", f"{' '.join(visit.untried)} (chronyd has no such sources)")
    if visit.off:
        yield _item("off", f"{' '.join(visit.off)} (not configured in chronyd)")
    for cause in dict.fromkeys(error._reason for error in visit.unreadable.values()):
        names = [name for name, error in visit.unreadable.items() if error._reason == cause]
        yield _item("unreadable", f"{' '.join(names)}: {cause}")


def _item(label: str, words: str) -> str:
    return wrapped(f"{label}: {words}", width(), "  ", 4)
