"""Runs coroutines on each kind of event loop that `pychrony.aio` supports."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import wraps
from importlib.util import find_spec
from typing import Any, TypeVar

import pytest

import pychrony
from pychrony import aio

T = TypeVar("T")

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if find_spec("uvloop"):  # the dependency group `loops`, which tools/run installs
    import uvloop  # pyright: ignore[reportMissingImports]

    LOOPS["uvloop"] = uvloop.new_event_loop
    # The first loop of a process opens a pipe for signals that stays; tests count descriptors.
    uvloop.new_event_loop().close()

each_kind = pytest.mark.parametrize("kind", LOOPS)


def each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test that is a coroutine on each kind of event loop."""

    @wraps(test)
    def run_test(kind: str, **arguments: Any) -> None:
        run(kind, test(**arguments))

    own = inspect.signature(test)
    kind = inspect.Parameter("kind", inspect.Parameter.KEYWORD_ONLY)
    run_test.__signature__ = own.replace(parameters=[*own.parameters.values(), kind])  # type: ignore[attr-defined]
    parametrized: Callable[..., None] = each_kind(run_test)
    return parametrized


def run(kind: str, main: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run()`, on a new loop of that kind."""
    loop = LOOPS[kind]()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


WAYS = ("blocking", *LOOPS)
each_way = pytest.mark.parametrize("way", WAYS)


def ask(way: str, name: str, *arguments: Any, **options: Any) -> Any:
    """Call the function of that name, of `pychrony` or, on this kind of loop, of its `aio`."""
    if way == "blocking":
        return getattr(pychrony, name)(*arguments, **options)

    async def awaited() -> Any:
        called = getattr(aio, name)(*arguments, **options)
        return await called if inspect.isawaitable(called) else [item async for item in called]

    return run(way, awaited())


class BackgroundLoop:
    """An event loop in its own thread, started when it is first needed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def result(self, answer: Any) -> Any:
        """Return the result of a coroutine, or any other value unchanged."""
        if not inspect.iscoroutine(answer):
            return answer
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, daemon=True).start()
        return asyncio.run_coroutine_threadsafe(answer, self._loop).result()

    def all(self, answers: AsyncIterator[T]) -> list[T]:
        """Return all items of an asynchronous iterator."""

        async def collect() -> list[T]:
            return [answer async for answer in answers]

        return list(self.result(collect()))
