"""Exceptions for everything that can go wrong outside the caller's program.

Invalid arguments raise `TypeError` or `ValueError` instead.
"""

from __future__ import annotations

from typing import TypeVar

__all__ = [
    "ChronyConnectionError",
    "ChronyDataError",
    "ChronyError",
    "ChronyLibraryError",
    "ChronyNotSynchronizedError",
    "ChronyPermissionError",
    "ChronyTimeoutError",
]

E = TypeVar("E", bound="ChronyError")


class ChronyError(Exception):
    """Base class of all errors that come from chronyd, libchrony or the system.

    Errors are equal if their class, message, error code and errno are.
    """

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
        # The parts of the message, so that nothing has to split it.
        self._action = ""  # what was tried, such as "reading tracking from"
        self._address = ""  # where, such as "ntp.example.net (192.0.2.1)"
        self._outcome = message  # what came back
        self._advice = ""  # what to do about it

    @classmethod
    def _compose(
        cls: type[E],
        action: str,
        address: str,
        outcome: str,
        advice: str = "",
        *,
        error_code: int | None = None,
        errno: int | None = None,
    ) -> E:
        """Return an error whose message consists of these parts; all but `outcome` may be empty."""
        tried = " ".join(filter(None, (action, address)))
        reason = "; ".join(filter(None, (outcome, advice)))
        error = cls(": ".join(filter(None, (tried, reason))), error_code, errno=errno)
        error._action, error._address = action, address
        error._outcome, error._advice = outcome, advice
        return error

    @property
    def _reason(self) -> str:
        """The message without what was tried: what came back, and what to do about it."""
        return "; ".join(filter(None, (self._outcome, self._advice)))

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        return self.message, self.error_code, self.errno

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.error_code), vars(self)


class ChronyLibraryError(ChronyError):
    """libchrony cannot be found or used.

    Install it, or set `PYCHRONY_LIBCHRONY` to its path; `pychrony doctor` shows what was tried.
    """


class ChronyConnectionError(ChronyError):
    """chronyd cannot be reached.

    Start chronyd, or check the path of its socket or its port.
    """


class ChronyTimeoutError(ChronyConnectionError):
    """chronyd did not answer in time.

    Check whether chronyd is stuck; for another host, check its `cmdallow` and the firewalls.
    """


class ChronyPermissionError(ChronyError):
    """This user is not allowed to open the socket, or to read the report.

    Run as root or as chronyd's own user (membership in its group is not enough), or use 127.0.0.1
    for the reports that are open to everyone.
    """


class ChronyDataError(ChronyError):
    """chronyd's answer cannot be used: it is too old, too new, malformed or incomplete.

    Update chronyd or libchrony, as the message says.
    """


class ChronyNotSynchronizedError(ChronyError):
    """The clock is not synchronised, or did not become so before the timeout.

    `pychrony check` says why.
    """
