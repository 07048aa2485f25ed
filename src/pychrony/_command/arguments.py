"""What the parsers of all subcommands share: types of arguments, and how an error is shown."""

from __future__ import annotations

import argparse
from typing import NoReturn

from .exits import USAGE, complain

MAX_INTERVAL = 1_000_000  # seconds; what no one waits for is a slip


class Parser(argparse.ArgumentParser):
    """A parser that shows an error in one line, and keeps the line breaks of its epilog."""

    def __init__(self, **options: object) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        complain(message)
        self.exit(USAGE, f"see '{self.prog} --help'\n")


def add_address(parser: argparse.ArgumentParser, *flags: str) -> None:
    """Add `--address`, besides which `flags` mean the same."""
    parser.add_argument(
        *flags,
        "--address",
        help="path of chronyd's Unix socket, or a host with or without a port; by default the "
        "local chronyd's socket, else 127.0.0.1, else ::1",
    )


def seconds_or_none(text: str) -> float | None:
    """Read a timeout, where 'none' is for ever."""
    return None if text.lower() == "none" else seconds(text)


def interval(text: str) -> float:
    """Read the time between two rounds of `--watch`, in seconds."""
    interval = seconds(text)
    if not 0 < interval <= MAX_INTERVAL:
        raise argparse.ArgumentTypeError(f"{text} must be above 0, and at most {MAX_INTERVAL}")
    return interval


def seconds(text: str) -> float:
    """Read a number of seconds."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
