"""Tests how connections find chronyd, and what the errors say if they do not."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from alone import Alone
from connected import connected
from limits import fds, nothing_left, remains
from loops import ask, each_way
from methods import LISTS, METHODS
from scripted import ScriptedChronyd, Transport, script
from scripted.faults import delay, dies
from scripted.wire import Command, ntp_source
from surroundings import needs_ipv6, needs_ipv6_in_kernel

import pychrony
from pychrony import (
    ChronyConnection,
    ChronyConnectionError,
    ChronyDataError,
    ChronyError,
    ChronyTimeoutError,
)
from pychrony import Transport as Reached
from pychrony._io.client import Client


def where(connection: ChronyConnection) -> tuple[str | None, Reached | None]:
    return connection.address, connection.transport


# A connection's life.


@pytest.mark.parametrize("method", METHODS.values())
def test_a_method_outside_a_with_block_is_a_mistake(method: str, scripted: ScriptedChronyd) -> None:
    connection = ChronyConnection(scripted.address)
    with connection:
        getattr(connection, method)()
    with pytest.raises(RuntimeError, match="'with' block"):
        getattr(connection, method)()
    with pytest.raises(RuntimeError, match="'with' block"):
        connection.get_report("tracking")


def test_a_connection_opens_nothing_before_its_with_block(scripted: ScriptedChronyd) -> None:
    before = fds()
    connection = ChronyConnection(scripted.address)
    assert fds() == before
    with connection:
        assert fds() > before
    assert fds() == before


def test_a_connection_serves_many_questions_over_the_same_sockets(
    scripted: ScriptedChronyd,
) -> None:
    with ChronyConnection(scripted.address) as connection:
        for method in [*METHODS.values()] * 10:
            getattr(connection, method)()
        before = fds()
        for method in [*METHODS.values()] * 10:
            getattr(connection, method)()
        assert fds() == before


def test_a_connection_can_be_opened_again_once_it_is_closed(scripted: ScriptedChronyd) -> None:
    connection = ChronyConnection(scripted.address)
    for _ in range(3):
        with connection as entered:
            assert entered is connection
            with pytest.raises(RuntimeError, match="already open"):
                connection.__enter__()
            assert connection.get_tracking().stratum == 3


def test_closing_is_allowed_at_any_time_and_twice(scripted: ScriptedChronyd) -> None:
    connection = ChronyConnection(scripted.address)
    connection.close()
    with connection:
        connection.get_tracking()
        connection.close()
        connection.close()
        with pytest.raises(RuntimeError):
            connection.get_tracking()
        assert connection.address is None
    connection.close()


def test_an_error_in_the_block_is_not_swallowed(scripted: ScriptedChronyd) -> None:
    connection = ChronyConnection(scripted.address)
    with nothing_left(scripted.address), pytest.raises(ZeroDivisionError), connection:
        assert connection.get_tracking().stratum / 0
    assert connection.address is None


def test_a_connection_that_could_not_be_opened_can_be_later(scripted: ScriptedChronyd) -> None:
    connection = ChronyConnection(scripted.address)
    scripted.stop()
    with nothing_left(), pytest.raises(ChronyConnectionError):
        connection.__enter__()
    assert where(connection) == (None, None)
    scripted.start()
    with connection:
        assert connection.get_tracking().stratum == 3


# Finding chronyd.


def by_name(address: str) -> str:
    return address.replace("127.0.0.1", "localhost")


FORMS = [
    ("udp", str, Reached.COMMAND_PORT),
    ("udp", by_name, Reached.COMMAND_PORT),
    pytest.param("udp6", str, Reached.COMMAND_PORT, marks=needs_ipv6),
    ("unix", str, Reached.UNIX_SOCKET),
    ("unix", Path, Reached.UNIX_SOCKET),
]


@pytest.mark.parametrize(("transport", "form", "reached"), FORMS)
def test_chronyd_is_reached_by_every_form_of_address(
    transport: Transport, form: Callable[[str], Any], reached: Reached
) -> None:
    with ScriptedChronyd(transport=transport) as chronyd:
        address = form(chronyd.address)
        assert pychrony.get_tracking(address).reference_ip == "192.0.2.1"
        connection = ChronyConnection(address)
        assert where(connection) == (None, None)
        with connection:
            assert connection.get_tracking().reference_ip == "192.0.2.1"
            assert where(connection) == (os.fspath(address), reached)
        assert where(connection) == (None, None)
    assert reached.value == ("unix_socket" if transport == "unix" else "command_port")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.0.0.1:7",
        pytest.param("::1", marks=needs_ipv6),
        pytest.param("[0:0::1]:7", marks=needs_ipv6),
    ],
)
def test_the_address_stays_as_it_was_given(address: str) -> None:
    with ChronyConnection(address) as connection:
        assert connection.address == address


def test_the_local_chronyd_is_found_at_its_socket_before_its_port(alone: Alone) -> None:
    said = alone(
        """
        with AtHome(), AtHome(transport="unix"), pychrony.ChronyConnection() as connection:
            ask(connection)
        with AtHome(), pychrony.ChronyConnection() as connection:
            ask(connection)
        with AtHome(), AtHome(transport="unix") as unix:
            unix.stop(crash=True)
            print(pychrony.get_tracking().stratum)
        """
    )
    path = "/var/run/chrony/chronyd.sock"
    port = "127.0.0.1:323"
    assert said == [f"{path} unix_socket 3 {path}", f"{port} command_port 3 {port}", "3"]


@needs_ipv6_in_kernel
def test_where_no_chronyd_is_at_all_every_place_is_named(alone: Alone) -> None:
    said = alone(
        """
        try:
            pychrony.get_tracking()
        except pychrony.ChronyConnectionError as error:
            assert error.errno == errno.ECONNREFUSED
            print(error)
        """
    )
    assert said == [
        "reading tracking from the local chronyd: not found at /var/run/chrony/chronyd.sock (no "
        "such file or directory), 127.0.0.1:323 (connection refused) or [::1]:323 (connection "
        "refused); start chronyd ('systemctl start chronyd', or 'chrony' on Debian and Ubuntu), or "
        "check cmdport and bindcmdaddress"
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@needs_ipv6_in_kernel
def test_where_the_socket_is_denied_and_no_port_open_the_user_is_told_who_may(alone: Alone) -> None:
    said = alone(
        """
        folder = Path("/run/chrony")
        folder.chmod(0o700)
        with AtHome(transport="unix"):
            pychrony.library_path()
            os.seteuid(1000)
            try:
                pychrony.get_tracking()
            except pychrony.ChronyPermissionError as error:
                assert error.errno == errno.EACCES
                print(error)
            os.seteuid(0)
        """
    )
    assert said == [
        "reading tracking from the local chronyd: not found at /var/run/chrony/chronyd.sock "
        "(permission denied), 127.0.0.1:323 (connection refused) or [::1]:323 (connection "
        "refused); only root and chronyd's own user can open it, group membership is not enough; "
        "or use 127.0.0.1, where chronyd serves tracking, sources and the other open reports to "
        "everyone (unless 'cmdport' is 0)"
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_where_no_chronyd_is_at_all_a_user_is_not_told_about_permissions(alone: Alone) -> None:
    said = alone(
        """
        Path("/run/chrony").chmod(0o700)
        pychrony.library_path()
        os.seteuid(1000)
        try:
            pychrony.get_tracking()
        except pychrony.ChronyConnectionError as error:
            print(error)
        """
    )
    assert len(said) == 1
    assert said[0].startswith("reading tracking from the local chronyd: not found at ")
    assert "(connection refused); start chronyd (" in said[0]


@pytest.mark.parametrize(
    "transport", ["udp", pytest.param("udp6", marks=needs_ipv6_in_kernel), "unix"]
)
def test_a_chronyd_that_starts_late_is_found_wherever_it_is(transport: str, alone: Alone) -> None:
    said = alone(
        f"""
        with pychrony.ChronyConnection() as connection:
            for _ in range(3):
                try:
                    connection.get_tracking()
                except pychrony.ChronyConnectionError as error:
                    print(error.errno == errno.ECONNREFUSED)
            with AtHome(transport="{transport}"):
                ask(connection)
        """
    )
    assert said[:-1] == ["True"] * 3
    found = {"udp": "127.0.0.1:323", "udp6": "[::1]:323", "unix": "/var/run/chrony/chronyd.sock"}
    assert said[-1].endswith(f" 3 {found[transport]}")


@needs_ipv6_in_kernel
def test_a_chronyd_that_has_vanished_is_asked_elsewhere(alone: Alone) -> None:
    said = alone(
        """
        with AtHome() as first, AtHome(transport="udp6"):
            with pychrony.ChronyConnection() as connection:
                connection.get_tracking()
                first.stop()
                ask(connection)
                first.start()
                ask(connection)
        """
    )
    assert said == [
        "127.0.0.1:323 command_port 3 [::1]:323",
        "[::1]:323 command_port 3 [::1]:323",
    ]


two_families = pytest.mark.parametrize(
    "elsewhere", ["127.0.0.2", pytest.param("::1", marks=needs_ipv6)]
)


@two_families
def test_a_name_with_several_addresses_leads_to_the_one_that_answers(
    elsewhere: str, resolve_to: Callable[..., None]
) -> None:
    """On many systems `localhost` has two addresses, but not necessarily on this one."""
    resolve_to(elsewhere, "127.0.0.1")
    with ScriptedChronyd() as chronyd:
        port = int(chronyd.address.rpartition(":")[2])
        assert pychrony.get_tracking(f"both.example:{port}").stratum == 3
        with ChronyConnection(f"both.example:{port}") as connection:
            assert connection.get_sources()
            assert connection.address == f"both.example:{port}"
        chronyd.stop()
        with pytest.raises(ChronyConnectionError) as raised:
            pychrony.get_tracking(f"both.example:{port}")
    assert raised.value.errno == errno.ECONNREFUSED
    shown = f"[{elsewhere}]" if ":" in elsewhere else elsewhere
    said = raised.value.message
    assert said.startswith(f"reading tracking from both.example:{port}: not found at ")
    assert f" {shown}:{port} (connection refused)" in said


@each_way
def test_a_name_and_its_answer_share_the_timeout(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object, **__: object) -> list[object]:
        time.sleep(0.7)
        return [(None, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with ScriptedChronyd(fault=delay(0.6)) as chronyd, pytest.raises(ChronyTimeoutError):
        ask(way, "get_tracking", chronyd.address.replace("127.0.0.1", "slow.example"), timeout=1.0)


@each_way
def test_the_error_of_a_name_leads_with_the_name(way: str, resolve_to: Callable[..., None]) -> None:
    resolve_to("127.0.0.1")
    with ScriptedChronyd() as chronyd:
        chronyd.stop()
        name = chronyd.address.replace("127.0.0.1", "one.example")
        with pytest.raises(ChronyConnectionError) as raised:
            ask(way, "get_tracking", name)
        (answer,) = pychrony.get_many([name], "tracking")
    said = f"reading tracking from {name} ({chronyd.address}): connection refused; "
    assert raised.value.message.startswith(said)
    assert (raised.value.errno, raised.value.error_code) == (errno.ECONNREFUSED, None)
    assert str(answer.error).startswith(said)


def test_all_addresses_of_a_name_share_the_timeout(
    resolve_to: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is silent, and vanishes; the second is silent."""
    given: list[int] = []
    start = Client.start

    def note(client: Client, question: Any, timeout: int, *rest: int) -> None:
        given.append(timeout)
        start(client, question, timeout, *rest)

    monkeypatch.setattr(Client, "start", note)
    resolve_to("127.0.0.1", "127.0.0.2")
    with ScriptedChronyd() as first, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
        port = int(first.address.rpartition(":")[2])
        second.bind(("127.0.0.2", port))
        first.fault = dies(first)
        with pytest.raises(ChronyConnectionError):
            pychrony.get_tracking(f"both.example:{port}", timeout=2)
    assert len(given) == 2
    assert given[1] < given[0] <= 2 * 10**9


def test_a_name_that_leads_to_a_single_link_alone_is_of_no_use(
    resolve_to: Callable[..., None],
) -> None:
    resolve_to("fe80::1%lo")
    error = refusal("neighbour.example")
    assert type(error) is ChronyConnectionError
    assert error.message.startswith("resolving neighbour.example: it only has fe80::1%lo, ")


# What goes wrong.


def refusal(address: Any, report: str = "get_tracking") -> ChronyError:
    """Return the error of a call."""
    with pytest.raises(ChronyError) as raised:
        getattr(pychrony, report)(address, timeout=5)
    error = raised.value
    assert error.message == str(error)
    tried = f"{error._action} {error._address}".strip()
    assert error.message == f"{tried}: {error._reason}"
    assert error._reason.startswith(error._outcome)
    assert "\n" not in error.message
    assert not error.message.endswith(".")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), vars(copy)) == (type(error), vars(error))
    return error


def listening(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()
    return server


def crashed(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))


@pytest.fixture
def short_path(tmp_path: Path) -> Iterator[Path]:
    """A path for a socket; libchrony does not allow a long folder."""
    link = Path("/tmp") / f"pychrony-{os.getpid()}"
    link.symlink_to(tmp_path)
    yield link / "chronyd.sock"
    link.unlink()


@pytest.mark.parametrize(
    ("make", "number", "words"),
    [
        (lambda path: None, errno.ENOENT, "no such file or directory; chronyd has no socket there"),
        (crashed, errno.ECONNREFUSED, "connection refused; chronyd does not listen there"),
        (Path.touch, errno.ECONNREFUSED, "connection refused; chronyd does not listen there"),
        (Path.mkdir, errno.ECONNREFUSED, "connection refused; chronyd does not listen there"),
        (listening, errno.EPROTOTYPE, "that socket is not chronyd's"),
    ],
    ids=["nothing", "crashed", "file", "folder", "other socket"],
)
def test_what_is_wrong_with_a_path_is_told_apart(
    make: Callable[[Path], Any], number: int, words: str, short_path: Path
) -> None:
    with make(short_path) or nullcontext():
        error = refusal(short_path)
    assert type(error) is ChronyConnectionError
    assert (error.errno, error.error_code) == (number, -1)
    assert error.message.startswith(f"connecting to {short_path}: ")
    assert words in error.message


def test_a_folder_too_long_for_libchrony_is_told(short_path: Path) -> None:
    folder = short_path.parent / ("x" * 50)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as chronyd:
        chronyd.bind(str(folder / "chronyd.sock"))
        error = refusal(folder / "chronyd.sock")
    if not isinstance(error, ChronyTimeoutError):  # libchrony 0.1 has no limit
        assert "the path of the socket's folder can have 62 bytes at most" in error.message


def test_a_name_that_cannot_be_resolved_is_told() -> None:
    name = 64 * "x"  # labels this long are not sent to a resolver
    error = refusal(name)
    assert type(error) is ChronyConnectionError
    assert error.message.startswith(f"resolving {name}: ")


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ("get_tracking", "too old for the report; update chronyd"),
        ("get_select_data", "too old for the report, which came with 4.0; update chronyd"),
        ("get_auth_data", "too old for the report, which came with 4.0; update chronyd"),
        ("get_ntp_data", "too old for the report, which came with 3.0; update chronyd"),
        ("get_server_stats", "too old for the report, which came with 2.3; update chronyd"),
        ("get_smoothing", "too old for the report, which came with 2.1; update chronyd"),
    ],
)
def test_an_old_chronyd_is_told_with_the_version_that_is_needed(report: str, words: str) -> None:
    known = (Command.N_SOURCES, Command.SOURCESTATS)
    old = {command: answer for command, answer in script().items() if command in known}
    with ScriptedChronyd(old, "unix") as chronyd:
        error = refusal(chronyd.address, report)
    assert type(error) is ChronyDataError
    assert (error.errno, error.error_code) == (None, 12)
    assert words in error.message


# Long lists.


def test_a_long_list_comes_whole_and_in_order() -> None:
    addresses = [f"10.0.{number // 250}.{number % 250 + 1}" for number in range(300)]
    with connected(script(map(ntp_source, addresses)), "unix") as (_, connection):
        for _ in range(2):
            for name in LISTS:
                read = getattr(connection, METHODS[name])()
                assert [record.name for record in read] == addresses, name
            described = connection.get_report("sourcestats")
            assert [record["address"].value for record in described] == addresses
        assert connection.get_tracking().stratum == 3


def test_what_answers_is_asked_for_a_list_over_several_sockets() -> None:
    sources = [ntp_source(f"192.0.2.{number + 1}") for number in range(200)]
    with ScriptedChronyd(script(sources), "unix") as chronyd:
        with ChronyConnection(chronyd.address, timeout=30) as connection:
            connection.get_sources()
            kept = len(remains(chronyd.address))  # a busy machine is taken for one far away
        clients = {request.client for request in chronyd.requests}
    assert 2 <= kept <= 16
    assert len(clients) >= kept
