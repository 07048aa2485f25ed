"""Leaves no folder beside chronyd's socket where a process ends without Python's usual exit.

`multiprocessing` ends its workers with `os._exit()`, which runs neither `atexit` nor destructors of
C libraries; but before, it runs finalizers. Nothing of ours can run at a plain `os._exit()`, at
`exec`, or when a signal kills the process.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

from ._shim import lib


class _Token:
    """What `multiprocessing` holds a weak reference to."""


_token = _Token()
_watched: set[int] = set()  # the process that has a finalizer


def watch_process() -> None:
    """Have all sockets closed when this process ends, if it is a worker of `multiprocessing`."""
    util = sys.modules.get("multiprocessing.util")  # in a worker, it is loaded
    if util is not None and os.getpid() not in _watched:
        _add_finalizer(util)


def _add_finalizer(util: ModuleType) -> None:
    _watched.clear()
    _watched.add(os.getpid())
    after_all_others = -100
    util.Finalize(None, lib.shim_close_all, exitpriority=after_all_others)


def _watch_worker() -> None:
    """Run in a forked child: a worker drops its parent's finalizers, and then asks for its own."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.register_after_fork(_token, lambda _: _add_finalizer(util))


os.register_at_fork(after_in_child=_watch_worker)
