"""Turns a code of libchrony's and the system's errno into the exception that says what to do."""

from __future__ import annotations

import errno
import os

from ..exceptions import (
    ChronyConnectionError,
    ChronyDataError,
    ChronyError,
    ChronyPermissionError,
    ChronyTimeoutError,
)
from ._shim import ffi, lib

# libchrony's codes (chrony_err) that need words of their own.
NO_MEMORY, NO_RANDOM, RANDOM_FAILED = 1, 2, 4
UNAUTHORIZED, DISABLED, UNEXPECTED_STATUS = 9, 10, 11
OLD_SERVER, NEW_SERVER, INVALID_RESPONSE = 12, 13, 14

# The version of chronyd that brought a report, where it is later than protocol version 6.
SINCE = {
    "authdata": "4.0",
    "ntpdata": "3.0",
    "selectdata": "4.0",
    "serverstats": "2.3",
    "smoothing": "2.1",
}

OFF = {
    "rtcdata": "chronyd keeps no watch of the hardware clock (rtcfile)",
    "smoothing": "chronyd does not smooth the time that it serves (smoothtime)",
}
"""Why chronyd itself may not keep a report, which is an answer and not an error."""

START = "start it ('systemctl start chronyd', on Debian and Ubuntu 'chrony')"
MAX_FOLDER = 62  # bytes, of the folder of chronyd's socket, in libchrony 0.2


def failure(
    action: str, address: str, code: int, system: int, *, report: str = "", waited: float = 0.0
) -> ChronyError:
    """Return the exception for `code` (libchrony's or the shim's) and errno `system`."""
    if code == lib.SHIM_TIMEOUT:
        words = f"no answer within {waited:g} s; {_why_silent(address)}"
        return ChronyTimeoutError(f"{action}: {words}")
    if code == lib.SHIM_CHANGING:
        words = f"its sources changed whenever they were read, for {waited:g} s; ask again"
        return ChronyTimeoutError(f"{action}: {words}")
    if code in (lib.SHIM_UNREACHABLE, NO_MEMORY, NO_RANDOM, RANDOM_FAILED):
        return _unreachable(action, address, code, system)
    if code == UNAUTHORIZED:
        return ChronyPermissionError(f"{action}: not authorized; {_who_may(address)}", code)
    return ChronyDataError(f"{action}: {_unusable(code, report)}", code)


def is_off(report: str, error: ChronyError) -> bool:
    """Whether chronyd itself does not keep the report, which is an answer."""
    return report in OFF and error.error_code == DISABLED


def absurd(action: str, number: int) -> ChronyDataError:
    """Return the exception for a number of records or fields that cannot be true."""
    return ChronyDataError(
        f"{action}: chronyd claims {number & 0xFFFF_FFFF} of them, which cannot be true; "
        "check what answers at that address"
    )


def _why_silent(address: str) -> str:
    if address.startswith("/"):
        return (
            "chronyd is stuck, or may not answer to a socket in that folder: "
            "see its log, and SELinux or AppArmor"
        )
    if address.startswith(("127.", "[::1]")):
        return "chronyd is stuck, or speaks another protocol version"
    return "allow this host there (cmdallow, bindcmdaddress, firewall), or ask on the host itself"


def _unreachable(action: str, address: str, code: int, system: int) -> ChronyError:
    native = None if code == lib.SHIM_UNREACHABLE else code
    words = os.strerror(system).lower() if system else ffi.string(lib.shim_error(code)).decode()
    if system in (errno.EACCES, errno.EPERM) and code == lib.SHIM_UNREACHABLE:
        advice = _who_may_open(address)
        return ChronyPermissionError(f"{action}: {words}; {advice}", native, errno=system)
    if code in (NO_RANDOM, RANDOM_FAILED):
        advice = "libchrony needs /dev/urandom, and a free file descriptor for it"
    else:
        advice = _what_to_do(address, system)
    return ChronyConnectionError(f"{action}: {words}; {advice}", native, errno=system or None)


def _what_to_do(address: str, system: int) -> str:
    unix = address.startswith("/")
    if system in (errno.EMFILE, errno.ENFILE):
        return "close connections, or raise the limit of open files"
    if unix and system == errno.ENOENT:
        return f"no chronyd has its socket there: {START}, or check the path (bindcmdaddress)"
    if unix and system == errno.EINVAL and len(os.path.dirname(os.fsencode(address))) > MAX_FOLDER:
        return f"libchrony takes a socket in a folder of {MAX_FOLDER} bytes at most"
    if unix and system in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
        return "libchrony must make a socket of its own beside chronyd's: let it write there"
    if unix and system == errno.EPROTOTYPE:
        return "that socket is not chronyd's"
    if unix:
        return f"no chronyd is behind that socket: {START}"
    if system == errno.ECONNREFUSED:
        return f"no chronyd listens there: {START}, or check its port (cmdport, bindcmdaddress)"
    return "check the address and the network"


def _who_may_open(address: str) -> str:
    if not address.startswith("/"):
        return "the system forbids it: check the address and the firewall"
    return (
        f"only root and {_owner(address)} may, its group may not; or use 127.0.0.1, where chronyd "
        "serves tracking, sources and the other open reports to everyone (unless 'cmdport' is 0)"
    )


def _owner(address: str) -> str:
    """Name the user that chronyd runs as, whose folder holds the socket."""
    import pwd  # only for this error

    try:
        name = pwd.getpwuid(os.stat(os.path.dirname(address)).st_uid).pw_name
    except (OSError, KeyError):
        name = "root"
    return "chronyd's own user" if name == "root" else name


def _who_may(address: str) -> str:
    if address.startswith("/"):
        return "chronyd refuses this report even over its Unix socket"
    return (
        "chronyd serves this report over its Unix socket, to root and its own user only; "
        "chronyd 4.7 and later can open it here with 'opencommands'"
    )


def _unusable(code: int, report: str) -> str:
    if code == OLD_SERVER:
        since = f": it came with {SINCE[report]}" if report in SINCE else ""
        return f"this chronyd is too old for the report{since}; update chronyd"
    if code == NEW_SERVER:
        return "this chronyd is newer than libchrony understands; update libchrony"
    if code == INVALID_RESPONSE:
        return "a malformed answer; check what answers at that address"
    if code == DISABLED:
        return OFF.get(report, "chronyd has this report disabled")
    if code == UNEXPECTED_STATUS:
        return "chronyd answered with an error; see its log"
    return ffi.string(lib.shim_error(code)).decode().lower()
