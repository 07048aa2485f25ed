"""Provides what the parsers of all subcommands share: options, their types and errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn, TypeVar

from .._io.address import parse_address
from .._model import durations, ranges
from .._model.ranges import Range
from ..assessment import Limits
from .exits import USAGE, complain
from .streams import width

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

TIMEOUT = 5.0  # seconds, as in the functions

T = TypeVar("T")

MAX_INTERVAL = 1_000_000  # seconds; more is probably a mistake


class Parser(argparse.ArgumentParser):
    """Shows an error in one line, keeps the line breaks of its epilog, and knows chronyc's `-h`."""

    commands: Mapping[str, Parser] = MappingProxyType({})
    """The parsers of subcommands."""
    host_as = "here it is '--address {}'"
    """How to give a host here."""
    habits: Mapping[str, str] = MappingProxyType({})
    """Words of chronyc's that mean nothing here, and what to use instead."""

    def __init__(self, **options: object) -> None:
        # Given the width, argparse does not import `shutil` to ask for it.
        formatter = partial(argparse.RawDescriptionHelpFormatter, width=width() - 2)
        super().__init__(allow_abbrev=False, formatter_class=formatter, **options)  # type: ignore[arg-type]

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse the arguments of the command; end with an error for what only chronyc takes.

        The attribute `parser` of the result is the one whose help describes these arguments.
        """
        parser = next((self.commands[word] for word in argv if word in self.commands), self)
        for before, word in pairwise(["", *argv]):
            if word in self.habits and not before.startswith("--"):  # not the value of an option
                parser.error(f"'{word}' is for chronyc; {self.habits[word]}")
            # For `-h HOST`, argparse would show the help.
            if before == "-h" and not word.startswith("-") and word not in self.commands:
                here = parser.host_as.format(word)
                parser.error(
                    f"'-h {word}' is how chronyc names a host; {here}, and -h shows the help"
                )
        options, unknown = self.parse_known_args(argv)
        if unknown:
            parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        options.parser = parser
        return options

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
        type=_address,
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
        type=or_none(interval),
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


def limits(options: argparse.Namespace) -> Limits:
    """Return the requirements that the options of `add_limits()` describe."""
    warning, critical = options.warning, options.critical
    if warning is None:
        warning = Range(0.1 if critical is None else min(0.1, critical.end))
    if critical is None:
        critical = Range(max(1.0, warning.end))
    if warning.is_limit() and critical.is_limit() and warning.end > critical.end:
        options.parser.error("--warning must not be above --critical")
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


@checked
def count(text: str) -> int:
    """Parse a whole number."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


@checked
def interval(text: str) -> float:
    """Parse an interval or a timeout."""
    seconds = durations.parse(text)
    if not 0 < seconds <= MAX_INTERVAL:
        raise ValueError(f"{text!r} is not above 0 and at most {MAX_INTERVAL} s")
    return seconds


@checked
def _address(text: str) -> str:
    parse_address(text)
    return text


def or_none(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    """Return `parse` as the type of a timeout; 'none' means no timeout."""
    return lambda text: None if text.lower() == "none" else parse(text)
