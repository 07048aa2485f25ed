"""Removes libchrony's sockets beside chronyd's when a `multiprocessing` worker ends.

`multiprocessing` ends its workers with `os._exit()`, which runs neither `atexit` handlers nor
destructors of C libraries, but it runs its own finalizers before. Nothing can be cleaned up on a
plain `os._exit()`, on `exec`, or when a signal kills the process.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

from ._shim import lib


class _Token:
    """An object for `multiprocessing` to hold a weak reference to."""


_token = _Token()
_watched: set[int] = set()  # IDs of the processes that have a finalizer


def watch_process() -> None:
    """Arrange that all sockets are closed at the end of a `multiprocessing` worker."""
    util = _util()
    if util is not None and os.getpid() not in _watched:
        _add_finalizer(util)


def _util() -> ModuleType | None:
    """Return `multiprocessing.util`, which every worker loads; `None` if it is not loaded here.

    `sys.modules.get()` would lock the dictionary on a Python without a GIL, and a child that is
    forked at that moment waits for ever.
    """
    name = "multiprocessing.util"
    return sys.modules[name] if name in sys.modules else None  # noqa: SIM401


def _add_finalizer(util: ModuleType) -> None:
    _watched.clear()
    _watched.add(os.getpid())
    after_all_others = -100
    util.Finalize(None, lib.shim_close_all, exitpriority=after_all_others)


def _watch_worker() -> None:
    """Add the finalizer in a forked child, once a worker has dropped those of its parent."""
    util = _util()
    if util is not None:
        util.register_after_fork(_token, lambda _: _add_finalizer(util))


os.register_at_fork(after_in_child=_watch_worker)
