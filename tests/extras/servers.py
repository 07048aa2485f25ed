"""Runs `pychrony exporter` and a real Prometheus for tests, on free ports of the loopback."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from limits import PATIENCE, wait_until


class Response(NamedTuple):
    status: int
    text: str
    headers: Mapping[str, str]


def fetch(url: str, headers: Mapping[str, str] | None = None, **options: Any) -> Response:
    """Return a server's answer, whatever the status."""
    request = Request(url, headers=dict(headers or {}))
    try:
        with urlopen(request, timeout=60, **options) as answer:
            return Response(answer.status, answer.read().decode(), dict(answer.headers))
    except HTTPError as error:
        with error:
            return Response(error.code, error.read().decode(), dict(error.headers))


class Exporter(NamedTuple):
    """A server, and the lines of its log so far; they are complete once it has ended."""

    url: str
    process: subprocess.Popen[str]
    lines: list[str]

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port

    def get(self, path: str, headers: Mapping[str, str] | None = None, **options: Any) -> Response:
        return fetch(self.url + path, headers, **options)

    def metrics(self) -> str:
        return self.get("/metrics").text

    def probe(self, target: str, headers: Mapping[str, str] | None = None) -> Response:
        return self.get(f"/probe?{urlencode({'target': target})}", headers)

    def is_up(self, target: str | None = None) -> bool:
        """Whether its chronyd has answered, or the one that it is to probe."""
        text = self.metrics() if target is None else self.probe(target).text
        assert "\nchrony_up " in text
        return "\nchrony_up 1.0\n" in text


@contextmanager
def exporter(*arguments: str, files: int | None = None) -> Iterator[Exporter]:
    """`pychrony exporter` on a free port, with patience; it may open so many files."""
    limited = [] if files is None else ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh"]
    command = [*limited, sys.executable, "-m", "pychrony", "exporter"]
    command += ["--listen", "127.0.0.1:0", "--timeout", "50"]
    lines: list[str] = []
    with subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        log = process.stderr
        reader = threading.Thread(target=lambda: lines.extend(log))
        try:
            line = log.readline()
            match = re.fullmatch(r"pychrony: serving (https?://\S+)/metrics\n", line)
            assert match, line + log.read()
            reader.start()
            yield Exporter(match[1], process, lines)
        finally:
            process.terminate()
            if reader.ident:
                reader.join(PATIENCE)


@contextmanager
def silence() -> Iterator[tuple[str, socket.socket]]:
    """An address where nobody answers, and the socket that receives the requests."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        yield f"127.0.0.1:{listener.getsockname()[1]}", listener


class Prometheus(NamedTuple):
    url: str

    def api(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer from its HTTP API."""
        answer = fetch(f"{self.url}/api/v1/{path}?{urlencode(parameters)}")
        assert answer.status == 200, answer.text
        return json.loads(answer.text)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series in the result of an instant query."""
        data = self.api("query", query=expression)
        assert data["resultType"] == "vector", data
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]


class Alertmanager(NamedTuple):
    url: str

    def send(self, alerts: list[dict[str, Any]]) -> None:
        """Send alerts as Prometheus does."""
        body = json.dumps(alerts).encode()
        headers = {"Content-Type": "application/json"}
        assert fetch(f"{self.url}/api/v2/alerts", headers, data=body).status == 200

    def alerts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(fetch(f"{self.url}/api/v2/alerts").text)
        return found


@contextmanager
def alertmanager(configuration: Path, folder: Path) -> Iterator[Alertmanager]:
    """An Alertmanager with this configuration, which sends its messages soon."""
    path = folder / "alertmanager.yml"
    text = configuration.read_text()
    assert "group_wait: 1m" in text
    path.write_text(text.replace("group_wait: 1m", "group_wait: 100ms"))
    program = shutil.which("alertmanager") or "prometheus-alertmanager"
    storage = f"--storage.path={folder / 'alertmanager'}"
    with server(program, path, storage, "--cluster.listen-address=") as url:
        yield Alertmanager(url)


@contextmanager
def prometheus(configuration: str, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus with this configuration, which keeps its data in a folder."""
    path = folder / "prometheus.yml"
    path.write_text(configuration)
    with server("prometheus", path, f"--storage.tsdb.path={folder / 'data'}") as url:
        yield Prometheus(url)


@contextmanager
def server(program: str, configuration: Path, *options: str) -> Iterator[str]:
    """A server of the Prometheus family on a free port, from when it is ready."""
    command = [program, f"--config.file={configuration}", "--web.listen-address=127.0.0.1:0"]
    log = configuration.with_suffix(".log")
    with (
        log.open("w") as output,
        subprocess.Popen([*command, *options], stdout=output, stderr=output) as process,
    ):
        try:
            yield wait_until(lambda: url_when_ready(process, log.read_text()))
        finally:
            process.terminate()


def url_when_ready(process: subprocess.Popen[bytes], log: str) -> str:
    """Return the URL that a server's log names, once it is ready there."""
    assert process.poll() is None, log
    place = re.search(r'msg="Listening on".* address=(\S+)', log)
    if place is None:
        return ""
    url = f"http://{place[1]}"
    try:
        return url if fetch(f"{url}/-/ready").status == 200 else ""
    except (URLError, ConnectionError):
        return ""
