"""Tests trio, gevent and sub-interpreters, where not everything works."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest
from programs import output

from pychrony.testing import PrivateChronyd

# The dependency group `loops`, which tools/run installs.


@pytest.mark.skipif(not find_spec("trio"), reason="trio is not installed")
def test_trio_is_refused_with_advice_that_works(chronyd: PrivateChronyd) -> None:
    said = output(
        """
        import sys
        import pychrony, pychrony.aio, trio

        async def connect():
            async with pychrony.aio.ChronyConnection(sys.argv[1]):
                pass

        async def read_many():
            async for _ in pychrony.aio.get_many([sys.argv[1], "localhost"]):
                pass

        async def read():
            await pychrony.aio.get_tracking(sys.argv[1])

        async def advised():
            tracking = await trio.to_thread.run_sync(pychrony.get_tracking, sys.argv[1])
            print(tracking.stratum)

        for main in (connect, read_many, read):
            try:
                trio.run(main)
            except RuntimeError as error:
                print(error)
        trio.run(advised)
        """,
        chronyd.address,
    )
    *refusals, stratum = said.splitlines()
    assert (
        refusals
        == [
            "pychrony.aio needs a running asyncio event loop; with any other, such as trio's, call "
            "the functions of pychrony in a thread"
        ]
        * 3
    )
    assert stratum == "6"


@pytest.mark.skipif(not find_spec("gevent"), reason="gevent is not installed")
@pytest.mark.parametrize("timeout", ["20", "0"])
def test_names_are_looked_up_under_gevent(server: PrivateChronyd, timeout: str) -> None:
    port = server.command_address.rpartition(":")[2]
    said = output(
        """
        import gevent.monkey
        gevent.monkey.patch_all()
        import sys
        import pychrony

        places, timeout = [f"localhost:{sys.argv[1]}"] * 3, float(sys.argv[2]) or None
        print(pychrony.get_tracking(places[0], timeout=timeout).stratum)
        for answer in pychrony.get_many(places, "tracking", timeout=timeout):
            print(answer.result().tracking.stratum)
        jobs = [gevent.spawn(pychrony.get_tracking, place, timeout=timeout) for place in places]
        for job in gevent.joinall(jobs, raise_error=True):
            print(job.value.stratum)
        """,
        port,
        timeout,
    )
    assert said.split() == ["5"] * 7


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a sub-interpreter shares the lock there")
def test_a_sub_interpreter_with_its_own_lock_gets_an_import_error() -> None:
    said = output(
        """
        try:
            import _interpreters
        except ImportError:
            import _xxsubinterpreters as _interpreters
        code = '''
        try:
            from pychrony import get_tracking
        except ImportError as error:
            print(error, flush=True)
        '''
        _interpreters.run_string(_interpreters.create(), code.replace("\\n        ", "\\n"))
        """
    )
    assert "does not support loading in subinterpreters" in said
