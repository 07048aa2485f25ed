"""Tests that the look-up of a host name is part of the timeout, and holds nobody up."""

from __future__ import annotations

import _thread
import asyncio
import socket
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from alone import Alone
from limits import wait_until

from pychrony._command import lookups
from pychrony._command.lookups import addresses_of, names_of
from pychrony._io.address import Address
from pychrony._io.names import LookUp, hosts

DEAD_ZONE = """
    import atexit
    open_files = ExitStack()
    atexit.register(open_files.close)
    # The only name server is silent.
    replace("resolv.conf", ["nameserver 127.0.0.1", "options timeout:5 attempts:2"])
    replace("nsswitch.conf", ["hosts: files dns"])
    replace("hosts", [f"127.0.0.2 good{number}" for number in range(40)])
    server = open_files.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    server.bind(("127.0.0.1", 53))

    def timed(call, *errors):
        start = time.monotonic()
        try:
            print(call())
        except errors as error:
            print(error)
        print(round(time.monotonic() - start, 1))

    def threads():
        return len(os.listdir("/proc/self/task"))
"""

SILENCE = "resolving dead.test: no answer within 1 s; check the name servers, or give an IP address"


@pytest.mark.parametrize(
    "call",
    [
        "pychrony.get_tracking('dead.test', timeout=1)",
        "pychrony.ChronyConnection('dead.test', timeout=1).__enter__()",
        "asyncio.run(aio.get_tracking('dead.test', timeout=1))",
        "next(pychrony.get_many(['dead.test'], timeout=1)).result()",
    ],
)
def test_a_silent_name_server_takes_no_longer_than_the_timeout(call: str, alone: Alone) -> None:
    said = alone(
        f"""{DEAD_ZONE}
    before = threads()
    for _ in range(3):
        timed(lambda: {call}, pychrony.ChronyTimeoutError)
    print(threads() - before)
    """
    )
    assert said[::2] == [SILENCE] * 3 + ["1"]
    assert all(0.9 <= float(taken) < 8 for taken in said[1::2])


def test_the_command_ends_in_time_although_the_name_server_is_silent(alone: Alone) -> None:
    said = alone(
        f"""{DEAD_ZONE}
    import sys
    for command in ("check -H dead.test -t 1", "wait --address dead.test --timeout 1"):
        command = [sys.executable, "-m", "pychrony", *command.split()]
        timed(lambda: subprocess.run(command, capture_output=True).returncode)
    """
    )
    assert said[::2] == ["2", "1"]
    assert all(float(taken) < 9 for taken in said[1::2])


@pytest.mark.parametrize("way", ["blocking", "aio", "connections"])
def test_names_of_a_dead_zone_hold_up_no_other_name(way: str, alone: Alone) -> None:
    said = alone(
        f"""{DEAD_ZONE}
    names = [f"dead{{n}}.test" for n in range(20)] + [f"good{{n}}" for n in range(40)]

    async def aio_many():
        return [answer async for answer in aio.get_many(names, "tracking", timeout=2)]

    async def aio_connections():
        calls = [aio.get_all("tracking", address=name, timeout=2) for name in names]
        found = await asyncio.gather(*calls, return_exceptions=True)
        return [reports for reports in found if not isinstance(reports, Exception)]

    with at("127.0.0.2", 3):
        start = time.monotonic()
        if {way!r} == "blocking":
            answers = [a for a in pychrony.get_many(names, "tracking", timeout=2) if a.reports]
        elif {way!r} == "aio":
            answers = [a for a in asyncio.run(aio_many()) if a.reports]
        else:
            answers = asyncio.run(aio_connections())
        good = [answer.address for answer in answers]
        print(sorted(good) == sorted(names[20:]), time.monotonic() - start < 9)
    """
    )
    assert said == ["True True"]


def test_stuck_names_hold_up_no_other_name_of_the_exporter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead, original = threading.Event(), socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **options: Any) -> Any:
        if host.startswith("stuck"):
            dead.wait()
        return original("127.0.0.1", *arguments, **options)

    async def main() -> list[str]:
        stuck = [addresses_of(Address(f"stuck{n}.test")) for n in range(40)]
        tasks = [asyncio.create_task(look_up) for look_up in stuck]
        await asyncio.sleep(0)
        good = await asyncio.wait_for(addresses_of(Address("good.test")), 10)
        dead.set()
        await asyncio.gather(*tasks)
        return good

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    try:
        assert asyncio.run(main()) == ["127.0.0.1"]
    finally:
        dead.set()


def test_names_that_nobody_waits_for_take_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls whose time is over have left many names of a dead zone behind."""
    answer, original = threading.Semaphore(0), socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **options: Any) -> Any:
        if host.startswith("stuck"):
            answer.acquire()
        return original("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    stuck = [hosts.poll(LookUp(f"stuck{n}.test")) for n in range(300)]
    try:
        assert 16 < len(hosts.running) < 300
        good = hosts.poll(LookUp("good.test"))
        answer.release()
        wait_until(lambda: hosts.poll(good).done)
        assert good.found == ["127.0.0.1"]
    finally:
        answer.release(len(stuck))
        wait_until(lambda: not hosts.running)


def test_names_of_addresses_are_found_after_a_shortage_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> Mapping[str, str]:
        monkeypatch.setattr(lookups, "_known", {})  # of earlier tests
        many = ["127.0.0.1", *(f"192.0.2.{n}" for n in range(100))]
        with monkeypatch.context() as shortage:
            shortage.setattr(_thread, "start_new_thread", refuse)
            assert await names_of(many, 1) == {}
        return await names_of(["127.0.0.1"], 10)

    assert asyncio.run(main()) == {"127.0.0.1": socket.getnameinfo(("127.0.0.1", 0), 0)[0]}


def test_a_look_up_whose_thread_cannot_be_started_is_an_error(alone: Alone) -> None:
    said = alone(
        """
        import _thread
        def start(*_): raise RuntimeError("can't start new thread")
        _thread.start_new_thread = start
        answers = list(pychrony.get_many(["localhost", "127.0.0.1"], "tracking", timeout=None))
        print(sorted(str(answer.error).partition(";")[0] for answer in answers))

        async def main():
            return [a async for a in aio.get_many(["localhost"], "tracking", timeout=None)]

        print(str(asyncio.run(main())[0].error).partition(";")[0])
        try:
            pychrony.get_tracking("localhost")
        except pychrony.ChronyConnectionError as error:
            print(error)
        """
    )
    words = "resolving localhost: can't start new thread"
    assert said[0].startswith("['reading tracking from 127.0.0.1:323: connection refused', ")
    assert said[0].endswith(f', "{words}"]')
    assert said[1:] == [words, f"{words}; raise the limit of threads, or give an IP address"]


def test_a_resolver_that_fails_in_another_way_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import pychrony

    def resolve(*_: object, **__: object) -> object:
        raise ValueError("out of order")

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    answers = list(pychrony.get_many(["localhost", "127.0.0.1:7"], "tracking", timeout=None))
    assert len(answers) == 2
    with pytest.raises(pychrony.ChronyConnectionError, match="resolving localhost: out of order;"):
        pychrony.get_tracking("localhost", timeout=None)


def test_a_forked_child_looks_up_what_its_parent_was_looking_up(alone: Alone) -> None:
    said = alone(
        """
        name(one="127.0.0.2", two="127.0.0.2", three="127.0.0.2")
        resolve, parent = socket.getaddrinfo, os.getpid()

        def slow(host, *arguments, **options):
            if host != "one" and os.getpid() == parent:
                time.sleep(1)
            return resolve(host, *arguments, **options)

        socket.getaddrinfo = slow
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        with at("127.0.0.2", 3):
            answers = pychrony.get_many(["one", "two", "three"], "tracking", timeout=None)
            print(next(answers).address, flush=True)
            child = os.fork()
            rest = sorted(answer.address for answer in answers if answer.reports)
            if child == 0:
                os._exit(rest != ["three", "two"])
            print(rest, os.waitpid(child, 0)[1])
        """
    )
    assert said == ["one", "['three', 'two'] 0"]
