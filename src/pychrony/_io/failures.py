"""Turns libchrony's error codes and the system's errno into exceptions that say what to do."""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Mapping

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

# The first version of chronyd with a report, where it is later than that of protocol version 6.
SINCE = {
    "authdata": "4.0",
    "ntpdata": "3.0",
    "selectdata": "4.0",
    "serverstats": "2.3",
    "smoothing": "2.1",
}

OFF = {
    "rtcdata": "chronyd is not tracking the hardware clock (rtcfile)",
    "smoothing": "chronyd does not smooth the time that it serves (smoothtime)",
}
"""What to say about a report that is turned off in chronyd, which is an answer and not an error."""

_SYSTEM = (lib.SHIM_UNOPENED, lib.SHIM_UNREACHABLE)
"""Codes of errors that come with an errno."""

START = "start chronyd ('systemctl start chronyd', or 'chrony' on Debian and Ubuntu)"
WHO_ANSWERS = "check which program answers at that address"
NO_FILES = (errno.EMFILE, errno.ENFILE)
MAX_FOLDER = 62  # bytes, of the folder of chronyd's socket, in libchrony 0.2


def failure(
    action: str,
    label: str,
    address: str,
    code: int,
    system: int,
    *,
    report: str = "",
    waited: float = 0.0,
) -> ChronyError:
    """Return the exception for `code` (libchrony's or the shim's) and errno `system`.

    `label` is what the message calls the chronyd at `address`.
    """
    if code == lib.SHIM_TIMEOUT:
        outcome, advice = f"no answer within {waited:g} s", _why_silent(address)
        return ChronyTimeoutError._compose(action, label, outcome, advice)
    if code == lib.SHIM_CHANGING:
        outcome = "its sources kept changing" + (f" for {waited:g} s" if waited >= 0 else "")
        return ChronyTimeoutError._compose(action, label, outcome, "ask again")
    if code in (*_SYSTEM, NO_MEMORY, NO_RANDOM, RANDOM_FAILED):
        return _unreachable(action, label, address, code, system)
    if code == UNAUTHORIZED:
        outcome, advice = "not authorized", _who_may(address, report)
        return ChronyPermissionError._compose(action, label, outcome, advice, error_code=code)
    outcome, advice = _unusable(code, report)
    return ChronyDataError._compose(action, label, outcome, advice, error_code=code)


def nowhere(action: str, label: str, tried: Mapping[str, ChronyError]) -> ChronyError:
    """Return the exception for a chronyd that is at none of the addresses `tried`.

    `label` is what the message calls that chronyd. `tried` has the error at each address.
    """
    *most, last = [f"{address} ({_brief(error)})" for address, error in tried.items()]
    outcome = f"not found at {', '.join(most)} or {last}"
    kind: type[ChronyError] = ChronyConnectionError
    error = [*tried.values()][-1]
    advice = f"{START}, or check cmdport and bindcmdaddress"
    for address, one in tried.items():
        if isinstance(one, ChronyTimeoutError):
            kind, error, advice = ChronyTimeoutError, one, _why_silent(address)
            break
        if isinstance(one, ChronyPermissionError) and _is_bound(address):
            kind, error, advice = ChronyPermissionError, one, _who_may_open(address)
    code, system = error.error_code, error.errno
    return kind._compose(action, label, outcome, advice, error_code=code, errno=system)


def _brief(error: ChronyError) -> str:
    if isinstance(error, ChronyTimeoutError):
        return "no answer"
    return os.strerror(error.errno).lower() if error.errno else error._outcome


def _is_bound(path: str) -> bool:
    """Whether a process listens on a Unix socket, even in a folder that this user cannot enter."""
    try:
        with open("/proc/net/unix") as sockets:
            return any(line.endswith(f" {os.path.realpath(path)}\n") for line in sockets)
    except OSError:
        return True


def unresolved(host: str, timeout: int) -> ChronyTimeoutError:
    """Return the exception for a host name whose look-up took longer than `timeout` nanoseconds."""
    outcome = f"no answer within {timeout / 1e9:g} s"
    advice = "check the name servers, or give an IP address"
    return ChronyTimeoutError._compose("resolving", host, outcome, advice)


def lookup_failure(host: str, error: Exception) -> ChronyConnectionError:
    """Return the exception for a host name that could not be looked up."""
    outcome, advice = str(getattr(error, "strerror", None) or error), "check the name"
    if isinstance(error, RuntimeError):  # no thread
        advice = "raise the limit of threads"
    return ChronyConnectionError._compose(
        "resolving", host, outcome, f"{advice}, or give an IP address"
    )


def refused(error: ChronyError) -> bool:
    """Whether chronyd has answered that the report is not open to this user there."""
    return error.error_code == UNAUTHORIZED


def is_away(error: ChronyError) -> bool:
    """Whether no chronyd has answered at this address, so that another one is worth a try."""
    kinds = ChronyConnectionError, ChronyPermissionError
    return isinstance(error, kinds) and not refused(error)


def is_off(report: str, error: ChronyError) -> bool:
    """Whether the report is turned off in chronyd, which is an answer and not a failure."""
    return report in OFF and error.error_code == DISABLED


def absurd(action: str, label: str, number: int) -> ChronyDataError:
    """Return the exception for a number of records or fields that cannot be true."""
    outcome = f"chronyd claims {number & 0xFFFF_FFFF} records, which cannot be true"
    return ChronyDataError._compose(action, label, outcome, WHO_ANSWERS)


def _why_silent(address: str) -> str:
    if address.startswith("/"):
        return (
            "chronyd is stuck, or is not allowed to answer a socket in that folder; "
            "check its log, and SELinux or AppArmor"
        )
    if address.startswith(("127.", "[::1]")):
        return "chronyd is stuck, or uses another version of the protocol"
    return (
        "check that chronyd there allows this host (cmdallow, bindcmdaddress), and the firewall, "
        "or ask on the host itself"
    )


def _unreachable(action: str, label: str, address: str, code: int, system: int) -> ChronyError:
    native = None if code == lib.SHIM_UNREACHABLE else code
    kind: type[ChronyError] = ChronyConnectionError
    outcome = os.strerror(system).lower() if system else ffi.string(lib.shim_error(code)).decode()
    if system in (errno.EACCES, errno.EPERM) and code in _SYSTEM:
        kind, advice = ChronyPermissionError, _who_may_open(address)
    elif code == NO_MEMORY or system == errno.ENOMEM:
        advice = "the system gives this process no more memory"
    elif code in (NO_RANDOM, RANDOM_FAILED) or not os.path.exists("/dev/urandom"):
        advice = "libchrony needs /dev/urandom, and a free file descriptor for it"
    else:
        advice = _what_to_do(address, system)
    return kind._compose(action, label, outcome, advice, error_code=native, errno=system or None)


def _what_to_do(address: str, system: int) -> str:
    unix = address.startswith("/")
    if system in NO_FILES:
        return "close connections, or raise the limit on open files"
    if unix and system == errno.ENOENT:
        return f"chronyd has no socket there; {START}, or check the path (bindcmdaddress)"
    if unix and system == errno.EINVAL and len(os.path.dirname(os.fsencode(address))) > MAX_FOLDER:
        return f"for libchrony, the path of the socket's folder can have {MAX_FOLDER} bytes at most"
    if unix and system in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
        return "libchrony creates its own socket beside chronyd's; make that folder writable"
    if unix and system == errno.EPROTOTYPE:
        return "that socket is not chronyd's"
    if unix:
        return f"chronyd does not listen there; {START}"
    if system == errno.ECONNREFUSED:
        return f"chronyd does not listen there; {START}, or check cmdport and bindcmdaddress"
    if system == errno.EINVAL and address.startswith("[fe80:"):
        needs = "libchrony does not support scopes, which link-local addresses need"
        return f"{needs}; give another address of the host"
    return "check the address and the network"


def _who_may_open(address: str) -> str:
    if not address.startswith("/"):
        return "the system does not allow it; check the address and the firewall"
    open_reports = (
        "use 127.0.0.1, where chronyd serves tracking, sources and the other open reports to "
        "everyone (unless 'cmdport' is 0)"
    )
    owner = _owner(address)
    if os.geteuid() == 0 and not _overrides():
        who = "root needs the capability CAP_DAC_OVERRIDE for it, which containers often lack"
        return f"{who}; run this as {owner}, or {open_reports}"
    if os.geteuid() == 0:
        return f"check SELinux or AppArmor, which can deny it to root, or {open_reports}"
    return f"only root and {owner} can open it, group membership is not enough; or {open_reports}"


def _overrides() -> bool:
    """Whether this process may open files regardless of their permissions (CAP_DAC_OVERRIDE)."""
    try:
        with open("/proc/self/status") as status:
            effective = next(line for line in status if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return True
    return bool(int(effective.split()[1], 16) & 1 << 1)


def _owner(address: str) -> str:
    """Return the name of chronyd's user, who owns the socket's folder."""
    try:
        name = pwd.getpwuid(os.stat(os.path.dirname(address)).st_uid).pw_name
    except (OSError, KeyError):
        name = "root"
    return "chronyd's own user" if name == "root" else name


def _who_may(address: str, report: str) -> str:
    if address.startswith("/"):
        return "chronyd refuses this report even over its Unix socket"
    # libchrony asks for these by the source's address, which it takes from "sourcestats".
    needed = "it and 'sourcestats'" if report in ("authdata", "ntpdata") else "it"
    return (
        "ask through chronyd's Unix socket, as root or as chronyd's own user; newer versions of "
        f"chronyd can also open {needed} here (opencommands)"
    )


def _unusable(code: int, report: str) -> tuple[str, str]:
    """Return what is wrong with chronyd's answer, and what to do about it, if anything."""
    if code == OLD_SERVER:
        since = f", which came with {SINCE[report]}" if report in SINCE else ""
        return f"this chronyd is too old for the report{since}", "update chronyd"
    if code == NEW_SERVER:
        return "this chronyd is newer than libchrony understands", "update libchrony"
    if code == INVALID_RESPONSE:
        return "a malformed answer", WHO_ANSWERS
    if code == DISABLED:
        return OFF.get(report, "chronyd has this report disabled"), ""
    if code == UNEXPECTED_STATUS:
        return "chronyd answered with an error", "see its log"
    return ffi.string(lib.shim_error(code)).decode().lower(), ""
