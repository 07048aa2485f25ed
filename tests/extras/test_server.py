"""The exporter's HTTP server: slow and hostile clients, TLS and passwords, and its log."""

from __future__ import annotations

import asyncio
import base64
import re
import signal
import socket
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import bcrypt
import pytest
import trustme
import yaml
from cryptography.hazmat.primitives import serialization  # trustme needs it
from limits import PATIENCE, wait_until
from programs import at, command
from scripted import ScriptedChronyd
from scripted.faults import drop, honest
from servers import exporter, fetch, silence

from pychrony import ChronyTimeoutError
from pychrony._command.exporter.local import Local
from pychrony._command.exporter.web_config import WebConfig
from pychrony.testing import PrivateChronyd

# Clients that are slow, many, or broken.

HELLO = b"GET / HTTP/1.1\r\nHost: exporter\r\n\r\n"

SLOW = {
    "silent": (b"", b""),
    "a byte a second": (b"GET / HTTP/1.1\r\nX: ", b"y"),
    "a line a second": (b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
    "idle after an answer": (HELLO, b""),
    "slow after an answer": (HELLO + b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
    "a slow body": (b"POST / HTTP/1.1\r\nHost: exporter\r\nContent-Length: 999\r\n\r\n", b"z"),
}


def is_closed_by_the_server(place: tuple[str, int], first: bytes, then: bytes) -> bool:
    deadline = time.monotonic() + PATIENCE
    with socket.create_connection(place) as client:
        client.settimeout(1.0)
        try:
            client.sendall(first)
            while time.monotonic() < deadline:
                try:
                    if not client.recv(65536):
                        return True
                except TimeoutError:
                    client.sendall(then)
        except OSError:
            return True
    return False


def test_a_client_has_ten_seconds_for_the_head_of_a_request() -> None:
    with exporter() as server, ThreadPoolExecutor(len(SLOW)) as pool:
        place = server.place
        clients = [pool.submit(is_closed_by_the_server, place, *sent) for sent in SLOW.values()]
        closed = [client.result() for client in clients]
    assert dict(zip(SLOW, closed, strict=True)) == dict.fromkeys(SLOW, True)
    assert server.lines == []


def test_a_client_that_does_not_read_is_dropped() -> None:
    with exporter("--address", "127.0.0.1:9") as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(server.place)
        client.setblocking(False)

        def is_dropped() -> bool:
            try:
                client.send(100 * b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n")
            except BlockingIOError:
                pass
            except ConnectionError:
                return True
            return False

        wait_until(is_dropped)


def test_a_connection_serves_several_requests_with_head_too() -> None:
    with exporter() as server:
        connection = HTTPConnection(*server.place)
        connection.connect()
        used = connection.sock
        for method in ("GET", "HEAD", "GET"):
            connection.request(method, "/")
            answer = connection.getresponse()
            body = answer.read()
            assert (answer.version, answer.status) == (11, 200)
            assert answer.getheader("Server") == "pychrony"
            assert int(answer.getheader("Content-Length") or 0) > 0
            assert bool(body) == (method == "GET")
        assert connection.sock is used
        connection.request("POST", "/", body="x")
        assert connection.getresponse().status == 405
        connection.close()


@pytest.mark.parametrize(
    "request_", [b"\x16\x03\x01\x02\x00\x01\x00", b"NONSENSE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_a_malformed_request_gets_400_and_no_version_of_the_server(request_: bytes) -> None:
    with exporter() as server:
        with socket.create_connection(server.place) as client:
            client.sendall(request_ + b"\r\n\r\n")
            client.settimeout(PATIENCE)
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert server.get("/").status == 200
    assert re.match(rb"HTTP/1\.[01] 400 ", answer)
    assert b"\r\nServer: pychrony\r\n" in answer
    assert server.lines == []


def test_clients_that_leave_write_nothing_into_the_log() -> None:
    reset = struct.pack("ii", 1, 0)
    with PrivateChronyd("local stratum 5") as own, exporter("--address", own.address) as server:
        for _ in range(20):
            with socket.create_connection(server.place) as client:
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        assert server.is_up()
    assert server.lines == []


def test_the_backlog_is_long_enough_for_a_burst() -> None:
    """While the exporter is stopped, connections wait in the kernel."""
    with exporter() as server, ExitStack() as clients:
        server.process.send_signal(signal.SIGSTOP)
        try:
            for _ in range(500):
                clients.enter_context(socket.create_connection(server.place, timeout=PATIENCE))
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert server.get("/-/healthy").status == 200


def test_a_probe_takes_no_thread() -> None:
    with (
        silence() as (dead, _),
        exporter("--allow", dead) as server,
        ExitStack() as clients,
    ):
        request = f"GET /probe?target={dead} HTTP/1.1\r\nHost: exporter\r\n\r\n".encode()
        for _ in range(100):
            client = clients.enter_context(socket.create_connection(server.place))
            client.sendall(request)
        wait_until(lambda: "probes_in_flight 100.0" in server.metrics())
        assert len(list(Path(f"/proc/{server.process.pid}/task").iterdir())) == 1


# What it says about itself.


def test_it_counts_refused_probes_and_names_its_version() -> None:
    with exporter() as server:
        server.probe("192.0.2.1")
        text = server.metrics()
    assert 'chrony_exporter_probes_refused_total{reason="not allowed"} 1.0' in text
    assert re.search(r'chrony_exporter_build_info\{.*version="\d.*"\} 1\.0', text)
    assert "_created" not in text


def test_each_refused_target_is_logged_once() -> None:
    with exporter() as server:
        for target in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
            server.probe(target)
    assert server.lines == [
        f"pychrony: target '{host}' is not allowed: address {host} is not covered by --allow\n"
        for host in ("192.0.2.1", "192.0.2.2")
    ]


def test_a_chronyd_that_fails_and_comes_back_is_logged_once_each() -> None:
    with PrivateChronyd("local stratum 5") as own, exporter("--address", own.address) as server:
        assert server.is_up()
        own.restart()
        assert server.is_up()
        own.stop(crash=True)
        assert [server.is_up() for _ in range(3)] == 3 * [False]
        own.start()
        assert [server.is_up() for _ in range(3)] == 3 * [True]
    failed, back = server.lines
    assert own.address in failed
    assert back == f"pychrony: chronyd at {own.address} answers again\n"


def test_a_scrape_without_an_answer_ends_no_other_scrape(scripted: ScriptedChronyd) -> None:
    async def main() -> None:
        local = Local(scripted.address, 4.0, ("tracking",))
        scripted.fault = drop
        first = asyncio.create_task(local.ask())
        await asyncio.sleep(2)
        second = asyncio.create_task(local.ask())
        with pytest.raises(ChronyTimeoutError):
            await first
        scripted.fault = honest
        assert (await second).tracking is not None
        await local.close()

    asyncio.run(main())


def test_all_addresses_are_listened_on() -> None:
    with exporter("--listen", ":0") as server:
        port = server.place[1]
        assert fetch(f"http://127.0.0.1:{port}/-/healthy").status == 200


# TLS and passwords.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def issue(authority: trustme.CA, folder: Path) -> dict[str, str]:
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "exporter.crt")
    certificate.private_key_pem.write_to_path(folder / "exporter.key")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    return {"cert_file": "exporter.crt", "key_file": "exporter.key"}


def web_config(folder: Path, **sections: object) -> list[str]:
    """Write a web configuration file; return the option for it."""
    path = folder / "web.yml"
    path.write_text(yaml.safe_dump(sections))
    return ["--web.config.file", str(path)]


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def basic(user: str, password: str) -> dict[str, str]:
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {token}"}


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> list[str]:
    """Options that serve HTTPS to clients with a certificate of the authority."""
    config = issue(authority, tmp_path) | {
        "client_ca_file": "ca.crt",
        "client_auth_type": "RequireAndVerifyClientCert",
    }
    return web_config(tmp_path, tls_server_config=config)


def client_of(authority: trustme.CA, *, certified: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certified:
        authority.issue_cert("prometheus").configure_cert(context)
    return context


def test_tls_and_client_certificates(authority: trustme.CA, tls: list[str]) -> None:
    with exporter("--address", "127.0.0.1:9", *tls) as server:
        assert server.url.startswith("https://")
        known = client_of(authority, certified=True)
        assert "\nchrony_up 0.0\n" in server.get("/metrics", context=known).text
        stranger = client_of(authority, certified=False)
        with pytest.raises(OSError, match=r"(?i)certificate|reset|eof|alert|closed|pipe"):
            server.get("/metrics", context=stranger)


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_more_silent_connections_than_files_stop_nobody(
    encrypted: bool, authority: trustme.CA, tls: list[str]
) -> None:
    context = client_of(authority, certified=True) if encrypted else None
    options = tls if encrypted else []
    with exporter(*options, files=64) as server, ExitStack() as clients:
        for _ in range(200):
            clients.enter_context(socket.create_connection(server.place))
        for _ in range(3):
            assert server.get("/-/healthy", context=context).status == 200
    assert server.lines == []


def test_a_password_is_asked_for(tmp_path: Path) -> None:
    options = web_config(tmp_path, basic_auth_users={"prometheus": hashed("secret")})
    with exporter(*options) as server:
        for path in ("/", "/metrics", "/probe?target=192.0.2.1", "/nothing"):
            answer = server.get(path)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        for _ in range(2):
            assert server.get("/", basic("prometheus", "secret")).status == 200
        for wrong in (basic("prometheus", "Secret"), basic("root", "secret"), basic("", "x" * 99)):
            assert server.get("/", wrong).status == 401
        for words in ("Basic ?", "Basic", "Bearer x", "Basic eA=="):
            assert server.get("/", {"Authorization": words}).status == 401


def test_passwords_are_read_again_on_sighup(tmp_path: Path) -> None:
    options = web_config(tmp_path, basic_auth_users={"prometheus": hashed("old")})
    with exporter(*options) as server:
        assert server.get("/", basic("prometheus", "old")).status == 200
        web_config(tmp_path, basic_auth_users={"prometheus": hashed("new")})
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.get("/", basic("prometheus", "new")).status == 200)
        assert server.get("/", basic("prometheus", "old")).status == 401
        web_config(tmp_path, basic_auth_users={"prometheus": "new"})
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(server.lines) == 2)
        assert server.get("/", basic("prometheus", "new")).status == 200
    assert "were read again" in server.lines[0]
    assert "the password of 'prometheus' is not a bcrypt hash" in server.lines[1]


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_each_client_is_answered_while_files_are_read_again(
    encrypted: bool, tmp_path: Path, authority: trustme.CA
) -> None:
    config = issue(authority, tmp_path) if encrypted else {}
    context = client_of(authority, certified=False) if encrypted else None
    with (
        exporter(*web_config(tmp_path, tls_server_config=config)) as server,
        ThreadPoolExecutor(8) as pool,
    ):

        def ask() -> list[int]:
            return [server.get("/-/healthy", context=context).status for _ in range(50)]

        clients = [pool.submit(ask) for _ in range(8)]
        while not all(client.done() for client in clients):
            lines = len(server.lines)
            server.process.send_signal(signal.SIGHUP)
            while len(server.lines) == lines and server.process.poll() is None:
                time.sleep(0.001)
    assert [client.result() for client in clients] == 8 * [50 * [200]]
    assert any("were read again" in line for line in server.lines)


def test_passwords_are_checked_again_after_a_shortage_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = web_config(tmp_path, basic_auth_users={"prometheus": hashed("secret")})
    config, given = WebConfig(Path(path)), basic("prometheus", "secret")["Authorization"]

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> bool:
        with monkeypatch.context() as shortage:
            shortage.setattr(threading.Thread, "start", refuse)
            for _ in range(50):
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    await config.admits(given)
        return await asyncio.wait_for(config.admits(given), PATIENCE)

    assert asyncio.run(main())


def test_sighup_without_a_file_changes_nothing() -> None:
    with exporter() as server:
        server.process.send_signal(signal.SIGHUP)
        assert server.get("/-/healthy").status == 200


def test_certificates_are_read_again_on_sighup(tmp_path: Path, authority: trustme.CA) -> None:
    options = web_config(tmp_path, tls_server_config=issue(authority, tmp_path))
    with exporter(*options) as server:
        before = ssl.get_server_certificate(server.place)
        assert before == (tmp_path / "exporter.crt").read_text().replace("\r", "")
        issue(authority, tmp_path)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: ssl.get_server_certificate(server.place) != before)


def test_tls_versions_and_ciphers_can_be_chosen(tmp_path: Path, authority: trustme.CA) -> None:
    config = issue(authority, tmp_path) | {
        "max_version": "TLS12",
        "prefer_server_cipher_suites": False,
        "cipher_suites": [
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        ],
    }
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with (
        exporter(*web_config(tmp_path, tls_server_config=config)) as server,
        socket.create_connection(server.place) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
    ):
        assert client.version() == "TLSv1.2"
        assert "AES256-GCM-SHA384" in str(client.cipher())


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"basic_auth_user": {}}, "'basic_auth_user' is not supported"),
        ({"basic_auth_users": {"a": "b"}}, "the password of 'a' is not a bcrypt hash"),
        ({"basic_auth_users": "a"}, "basic_auth_users must be a mapping"),
        ({"tls_server_config": {"cert_file": "a.crt"}}, "lacks key_file"),
        ({"tls_server_config": {"cert_file": "a", "key_file": "b"}}, "/a: No such file"),
        ({"tls_server_config": {"cert_file": "a", "key_file": "b", "min_version": "SSL3"}}, "SSL3"),
        ({"tls_server_config": {"certs": "a"}}, "'certs' is not supported"),
        ({"tls_server_config": {"cert_file": 1, "key_file": "b"}}, "cert_file must be a text"),
        ({"tls_server_config": {"cipher_suites": 1}}, "cipher_suites must be a list"),
        ({"tls_server_config": {"min_version": ["TLS12"]}}, "min_version must be a text"),
    ],
)
def test_a_web_configuration_that_cannot_be_used_is_code_2(
    sections: dict[str, object], words: str, tmp_path: Path
) -> None:
    done = command("exporter", "--listen", "127.0.0.1:0", *web_config(tmp_path, **sections))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"pychrony: {tmp_path}/web.yml: " in done.stderr
    assert words in done.stderr


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("key_file", "no key"),
        ("cert_file", "no certificate"),
        ("client_ca_file", "no certificate"),
        ("key_file", "a key of another certificate"),
        ("key_file", "a key with a password"),
    ],
)
def test_an_error_of_a_certificate_or_key_names_the_file(
    part: str, content: str, tmp_path: Path, authority: trustme.CA
) -> None:
    config = issue(authority, tmp_path)
    config |= {"client_ca_file": "ca.crt", "client_auth_type": "RequireAndVerifyClientCert"}
    if "password" in content:
        content = protected_key(tmp_path / "exporter.key")
    elif "another" in content:
        content = authority.issue_cert("127.0.0.1").private_key_pem.bytes().decode()
    (tmp_path / config[part]).write_text(content)
    options = web_config(tmp_path, tls_server_config=config)
    done = command("exporter", "--listen", "127.0.0.1:0", *options)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"pychrony: {tmp_path}/web.yml: " in done.stderr
    assert str(tmp_path / config[part]) in done.stderr
    assert ": not " in done.stderr


def protected_key(path: Path) -> str:
    """Return a private key, encrypted with a password."""
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    ).decode()


# Once, without a server.


def test_once_writes_the_page_to_stdout() -> None:
    with PrivateChronyd("local stratum 5") as own:
        done = command("exporter", "--once", *at(own))
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nchrony_up 1.0\n" in done.stdout
    assert "process_" not in done.stdout  # node_exporter has its own


def test_once_replaces_a_file_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "chrony.prom"
    path.write_text("old\n")
    with path.open() as reader:
        done = command("exporter", "--once", "--address", "127.0.0.1:9", "--output", str(path))
        assert reader.read() == "old\n"
    assert (done.returncode, done.stdout) == (0, "")
    assert "\nchrony_up 0.0\n" in path.read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["chrony.prom"]
    assert path.stat().st_mode & 0o444 == 0o444


def test_a_file_that_cannot_be_written_is_code_1(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, why in (tmp_path / "no" / "x", "No such file or directory"), (file / "x", "Not a"):
        done = command("exporter", "--once", "--address", "127.0.0.1:9", "--output", str(path))
        assert done.returncode == 1
        assert f"\npychrony: writing {path}: {why}" in done.stderr


def test_sources_are_named_by_reverse_dns_if_asked_for() -> None:
    name = socket.getnameinfo(("127.0.0.1", 0), socket.NI_NAMEREQD)[0]
    with (
        PrivateChronyd("server 127.0.0.1 port 9") as own,
        exporter("--address", own.address, "--resolve") as server,
    ):
        assert f'source_address="127.0.0.1",source_name="{name}"' in server.metrics()


def test_names_that_nobody_knows_do_not_delay_a_scrape_beyond_its_time() -> None:
    with (
        ScriptedChronyd(transport="unix") as chronyd,
        exporter("--address", chronyd.address, "--resolve", "--timeout", "10") as server,
    ):
        text = server.metrics()
    assert 'source_name="192.0.2.1"' in text
