"""Defines the errors of the tools for building and releasing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class ReleaseError(Exception):
    """A step of a release cannot continue; the message says why, and what to do."""


@contextmanager
def reported(program: str) -> Iterator[None]:
    """End the program with the error's message, which GitHub also shows on the page of the run."""
    try:
        yield
    except ReleaseError as error:
        if os.environ.get("GITHUB_ACTIONS") == "true":
            print("::error::" + str(error).replace("%", "%25").replace("\n", "%0A"), flush=True)
        sys.exit(f"{program}: {error}")
