"""Defines the exit codes of the `pychrony` command, and what it writes to stderr."""

from __future__ import annotations

import sys

from ..exceptions import ChronyDataError, ChronyError, ChronyLibraryError, ChronyPermissionError

UNREACHABLE, USAGE, DENIED, UNUSABLE, NO_LIBRARY = 1, 2, 3, 4, 5
BAD = 1  # what was judged is a clock that is not good
INTERRUPTED, BROKEN_PIPE = 128 + 2, 128 + 13  # as a shell reports these signals


def exit_code(error: ChronyError) -> int:
    """Return the exit code for an error."""
    codes: dict[type[ChronyError], int] = {
        ChronyLibraryError: NO_LIBRARY,
        ChronyPermissionError: DENIED,
        ChronyDataError: UNUSABLE,
    }
    return codes.get(type(error), UNREACHABLE)


def complain(message: str) -> None:
    """Write a line to stderr."""
    print(f"pychrony: {message}", file=sys.stderr)


def progress(line: str) -> None:
    """Write a line to stderr, which is a terminal, in place of the previous one."""
    print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)
