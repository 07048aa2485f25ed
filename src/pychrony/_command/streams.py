"""Makes the standard streams usable, whatever the caller of the command has done with them.

It also tells how wide the terminal is.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, cast


def prepare() -> None:
    """Open the streams that are closed, and ignore errors of writing to stderr.

    If a stream is closed ('2>&-'), the next socket would get its number, and `print()` would write
    to stdout what is meant for stderr.
    """
    # Reading from stdin and writing to stdout then fails, as it does in GNU's programs.
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        _open(number, mode)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is sys.__stderr__:
        sys.stderr = _stderr()


def width(elsewhere: int = 80) -> int:
    """Return the number of columns of the terminal, or `elsewhere` if stdout is no terminal."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size().columns or elsewhere
    except OSError:
        return elsewhere


def discard_output() -> None:
    """Keep Python from flushing unwritable output when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _open(number: int, mode: int) -> None:
    """Open this file descriptor if it is closed, provided that all lower ones are open."""
    try:
        os.fstat(number)
    except OSError:
        with suppress(OSError):  # no /dev/null
            os.open(os.devnull, mode)


class _Stderr(io.FileIO):
    """Discards what cannot be written."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _stderr() -> io.TextIOWrapper:
    encoding = getattr(sys.stderr, "encoding", None)
    buffer = io.BufferedWriter(cast(io.RawIOBase, _Stderr(2, "w", closefd=False)))
    return io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=True)
