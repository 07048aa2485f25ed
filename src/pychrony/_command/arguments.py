"""Provides what the parsers of all subcommands share: options, their types and errors."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn, TypeVar

from .._io.address import MAX_TIMEOUT
from .._model import durations, ranges
from .._model.ranges import up_to
from ..assessment import Limits
from ..connection import ChronyConnection
from .exits import USAGE, complain

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

TIMEOUT = 5.0  # seconds, as in the functions

T = TypeVar("T")

MAX_INTERVAL = 1_000_000  # seconds; more is probably a mistake


def columns() -> int:
    """Return the width of the terminal."""
    try:
        return int(os.environ["COLUMNS"]) or 80
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size().columns or 80
    except OSError:  # stdout is no terminal
        return 80


class Parser(argparse.ArgumentParser):
    """Shows an error in one line, keeps the line breaks of its epilog, and knows chronyc's `-h`."""

    commands: Collection[str] = ()
    """Subcommands: words that may follow `-h`."""
    host_as = "--address {}"
    """How to give a host here; empty if that is not possible."""
    habits: Mapping[str, str] = MappingProxyType({})
    """Words of chronyc's that mean nothing here, and what to use instead."""

    def __init__(self, **options: object) -> None:
        # Given the width, argparse does not import `shutil` to ask for it.
        formatter = partial(argparse.RawDescriptionHelpFormatter, width=columns() - 2)
        super().__init__(allow_abbrev=False, formatter_class=formatter, **options)  # type: ignore[arg-type]

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse the arguments of the command; end with an error for what only chronyc takes."""
        self._refuse_chronycs_habits(argv)
        return self.parse_args(argv)

    def _refuse_chronycs_habits(self, argv: Sequence[str]) -> None:
        for before, word in pairwise(["", *argv]):
            if word in self.habits and not before.startswith("--"):  # not the value of an option
                self.error(f"'{word}' is for chronyc; {self.habits[word]}")
            if before == "-h" and not (word.startswith("-") or word in self.commands):
                self._refuse_host(word)

    def _refuse_host(self, host: str) -> NoReturn:
        """Refuse `-h HOST`, for which argparse would show the help."""
        here = f"here it is '{self.host_as.format(host)}'" if self.host_as else "none is needed"
        self.error(f"'-h {host}' is how chronyc names a host; {here}, and -h shows the help")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Write a message; raise the error if that fails, which argparse would hide."""
        (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        complain(message)
        self.exit(USAGE, f"see '{self.prog} --help'\n")


def add_address(parser: argparse.ArgumentParser, *flags: str) -> None:
    """Add `--address`; `flags` are further names of the option."""
    parser.add_argument(
        *flags,
        "--address",
        help="path of chronyd's Unix socket, or a host with or without a port (default: the local "
        "chronyd, at its socket, 127.0.0.1 or ::1)",
    )


def add_timeout(
    parser: argparse.ArgumentParser, *flags: str, of: str = "chronyd, over all requests"
) -> None:
    """Add `--timeout`; `of` says in its help what is waited for."""
    parser.add_argument(
        *flags,
        "--timeout",
        type=_timeout,
        default=parser.argument_default or TIMEOUT,
        metavar="DURATION",
        help=f"how long to wait for {of} (default: {TIMEOUT:g}s); 'none' waits for ever",
    )


def add_json(parser: argparse.ArgumentParser, shown: str) -> None:
    """Add `--json`, which prints what is `shown`."""
    parser.add_argument("--json", action="store_true", help=f"print {shown} as JSON")


def add_output(parser: argparse.ArgumentParser, options: str) -> None:
    """Add `--output`, which is possible with these options."""
    parser.add_argument(
        "--output",
        metavar="FILE",
        help=f"with {options}, append the lines to this file, which may be rotated at any time",
    )


def add_local_ok(parser: argparse.ArgumentParser) -> None:
    """Add `--local-ok`."""
    parser.add_argument(
        "--local-ok",
        action="store_true",
        help="accept a chronyd that is its own reference ('local' directive)",
    )


def connection(parser: argparse.ArgumentParser, options: argparse.Namespace) -> ChronyConnection:
    """Return the connection that `--address` and `--timeout` describe."""
    try:
        return ChronyConnection(options.address, timeout=options.timeout)
    except ValueError as error:
        parser.error(str(error))


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the options for the requirements."""
    for state, default in (("warning", "100ms"), ("critical", "1s")):
        parser.add_argument(
            f"-{state[0]}",
            f"--{state}",
            type=checked(ranges.parse),
            metavar="BOUND",
            help=f"{state.upper()} if the error bound is above this, such as 2.5us, or outside a "
            f"range such as 1us:10ms, or inside one, such as @10ms:1s (default: {default})",
        )
    parser.add_argument(
        "--sources",
        type=count,
        default=1,
        metavar="N",
        help="WARNING if fewer sources are usable (default: 1); 0 ignores the sources",
    )
    parser.add_argument(
        "--stratum",
        type=count,
        default=15,
        metavar="N",
        help="WARNING if the stratum of the clock is higher (default: 15)",
    )
    add_local_ok(parser)


def limits(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Limits:
    """Return the requirements that the options of `add_limits()` describe."""
    warning, critical = options.warning, options.critical
    if warning is None:
        warning = up_to(0.1 if critical is None else min(0.1, critical.end))
    if critical is None:
        critical = up_to(max(1.0, warning.end))
    if warning.is_limit() and critical.is_limit() and warning.end > critical.end:
        parser.error("--warning must not be above --critical")
    return Limits(warning, critical, options.sources, options.stratum, options.local_ok)


def checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return `parse` as the type of an argument, whose `ValueError` is shown to the user."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


duration = checked(durations.parse)


def count(text: str) -> int:
    """Parse a whole number."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def duration_or_none(text: str) -> float | None:
    """Parse a timeout; 'none' means no timeout."""
    return None if text.lower() == "none" else duration(text)


def _timeout(text: str) -> float | None:
    """Parse the timeout of a connection."""
    seconds = duration_or_none(text)
    if seconds is not None and not 0 < seconds <= MAX_TIMEOUT:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not above 0 and at most {MAX_TIMEOUT:.0f} s; 'none' waits for ever"
        )
    return seconds


def interval(text: str) -> float:
    """Parse the interval of `--watch`."""
    interval = duration(text)
    if not 0 < interval <= MAX_INTERVAL:
        raise argparse.ArgumentTypeError(f"{text} must be above 0 and at most {MAX_INTERVAL} s")
    return interval
