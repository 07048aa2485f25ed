"""What can go wrong when chronyd is asked, as exceptions.

A caller's own mistake is a `TypeError` or a `ValueError`; everything here comes from outside.
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
    """Base of all errors that come from chronyd, libchrony or the system."""

    message: str
    """What was tried, what came back, and what to do about it."""
    error_code: int | None
    """libchrony's `chrony_err` value, or `None` if libchrony reported none."""
    errno: int | None
    """The system's error number, or `None` if no system call failed."""

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
    """The socket or the report is denied to this user."""


class ChronyDataError(ChronyError):
    """chronyd's answer cannot be used: too old, too new, malformed, or a field is missing."""


class ChronyNotSynchronizedError(ChronyError):
    """The clock is not synchronised, or was not in time: its error has no bound."""
