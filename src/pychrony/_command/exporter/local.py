"""Asks the chronyd of `/metrics`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...aio import ChronyConnection
from ...exceptions import ChronyError
from ...models import AllReports


class Local:
    """The chronyd of `/metrics`, with a connection that stays open while it answers."""

    def __init__(self, address: str | None, timeout: float, names: Sequence[str]) -> None:
        self.label = address or "this machine"
        self._connection = ChronyConnection(address, timeout=timeout)
        self._names = names
        self._opening = asyncio.Lock()
        self._asking = 0

    async def ask(self) -> AllReports:
        """Read the reports."""
        async with self._opening:
            if self._connection.address is None:
                await self._connection.__aenter__()
        self._asking += 1
        try:
            return await self._connection.get_all(*self._names)
        except ChronyError:
            if self._asking == 1:
                await self.close()  # the next call looks for chronyd in all places again
            raise
        finally:
            self._asking -= 1

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.aclose()
