"""Exceptions for everything that can go wrong outside the caller's program.

Invalid arguments raise `TypeError` or `ValueError` instead.
"""

from __future__ import annotations

__all__ = [
    "ChronyConnectionError",
    "ChronyDataError",
    "ChronyError",
    "ChronyLibraryError",
    "ChronyNotSynchronizedError",
    "ChronyPermissionError",
    "ChronyTimeoutError",
]


class ChronyError(Exception):
    """Base class of all errors that come from chronyd, libchrony or the system."""

    message: str
    """What was tried, what came back, and what to do about it."""
    error_code: int | None
    """libchrony's error code (`chrony_err`), or -1 if it could not open a socket.

    `None` if libchrony reported no error.
    """
    errno: int | None
    """The system's error number (`errno`); `None` if no system call failed."""

    def __init__(
        self, message: str, error_code: int | None = None, *, errno: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code
        self.errno = errno

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.error_code), {"errno": self.errno}


class ChronyLibraryError(ChronyError):
    """libchrony cannot be found or used."""


class ChronyConnectionError(ChronyError):
    """chronyd cannot be reached."""


class ChronyTimeoutError(ChronyConnectionError):
    """chronyd did not answer in time."""


class ChronyPermissionError(ChronyError):
    """This user is not allowed to open the socket, or to read the report."""


class ChronyDataError(ChronyError):
    """chronyd's answer cannot be used: it is too old, too new, malformed or incomplete."""


class ChronyNotSynchronizedError(ChronyError):
    """The clock is not synchronised, or was not in time: its error has no bound."""
