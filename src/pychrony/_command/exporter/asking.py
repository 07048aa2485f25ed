"""Asks chronyds for a scrape, and makes metrics of their answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ...aio import ChronyConnection
from ...exceptions import ChronyError, ChronyTimeoutError
from ...models import AllReports
from ...prometheus import Exposition, Family
from ..lookups import Lookups
from .places import Places
from .server import log


class Chronyds:
    """Asks chronyds, and logs when one stops answering, and when it answers again."""

    def __init__(
        self, exposition: Exposition, places: Places, lookups: Lookups, *, resolve: bool
    ) -> None:
        self._exposition = exposition
        self._places = places
        self._lookups = lookups
        self._resolve = resolve

    async def families(
        self, label: str, timeout: float, ask: Callable[[], Awaitable[AllReports]]
    ) -> list[Family]:
        """Return the metrics of a chronyd: of its reports, or of the error."""
        start = time.monotonic()
        reports = AllReports()
        error: ChronyError | None = None
        try:
            reports = await asyncio.wait_for(ask(), timeout)
        except asyncio.TimeoutError:
            error = ChronyTimeoutError(f"asking {label}: no answer within {timeout:g} s")
        except ChronyError as problem:
            error = problem
        passed = time.monotonic() - start
        self._note(label, error)
        names: Mapping[str, str] = {}
        if self._resolve and error is None:
            names = await self._lookups.names(_sources(reports), timeout - passed)
        return list(self._exposition.families(reports, error, passed, names))

    def _note(self, label: str, error: ChronyError | None) -> None:
        if self._places.note(label, answered=error is None):
            log.warning(
                "%s", f"chronyd at {label} answers again" if error is None else error.message
            )


def _sources(reports: AllReports) -> list[str]:
    addresses = [source.address for source in reports.sources or ()]
    if reports.tracking is not None:
        addresses.append(reports.tracking.reference_ip)
    return [address for address in dict.fromkeys(addresses) if address]


class Local:
    """The chronyd of `/metrics`, with a connection that stays open while it answers."""

    def __init__(self, address: str | None, timeout: float, names: Sequence[str]) -> None:
        self.label = address or "this machine"
        self._connection = ChronyConnection(address, timeout=timeout)
        self._names = names
        self._opening = asyncio.Lock()

    async def ask(self) -> AllReports:
        """Read the reports."""
        async with self._opening:
            if self._connection.address is None:
                await self._connection.__aenter__()
        try:
            return await self._connection.get_all(*self._names)
        except ChronyError:
            await self.close()  # the next call looks for chronyd in all places again
            raise

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.aclose()
