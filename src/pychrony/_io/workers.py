"""Removes libchrony's sockets beside chronyd's when a `multiprocessing` worker ends.

`multiprocessing` ends its workers with `os._exit()`, which runs neither `atexit` handlers nor
destructors of C libraries, but it runs its own finalizers before. Nothing can be cleaned up on a
plain `os._exit()`, on `exec`, or when a signal kills the process.
"""

from __future__ import annotations

import os
import sys

from ._shim import lib


class _Token:
    """An object for `multiprocessing` to hold a weak reference to."""


_token = _Token()


def _watch_process() -> None:
    """Arrange that all sockets are closed at the end of this process, if it may be a worker.

    A worker drops the finalizers that it has before it begins its work, so it adds this one again.
    """
    # `get()` would lock the dictionary on a Python without a GIL, and a child that is forked at
    # that moment waits for ever.
    name = "multiprocessing.util"
    util = sys.modules[name] if name in sys.modules else None  # noqa: SIM401
    if util is None:  # every worker loads it
        return

    def add_finalizer(_: object) -> None:
        util.Finalize(None, lib.shim_close_all, exitpriority=-100)  # after all others

    add_finalizer(_token)
    util.register_after_fork(_token, add_finalizer)


_watch_process()
os.register_at_fork(after_in_child=_watch_process)
