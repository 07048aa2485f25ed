"""Makes locks that a fork waits for, so that a child never inherits half-finished work."""

from __future__ import annotations

from _thread import RLock, get_ident
from os import register_at_fork


def fork_lock() -> RLock:
    """Return a lock that a thread acquires before it forks, and releases after the fork."""
    lock = RLock()
    forking: set[int] = set()

    def before() -> None:
        lock.acquire()
        forking.add(get_ident())

    def after() -> None:
        if get_ident() in forking:  # not if the lock was made while the process was forking
            forking.remove(get_ident())
            lock.release()

    register_at_fork(before=before, after_in_parent=after, after_in_child=after)
    return lock
