"""Runs a package index with Trusted Publishing on this machine, which fails on demand."""

from __future__ import annotations

import hashlib
import html
import json
import secrets
import ssl
import threading
from base64 import b64decode
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from artifacts import PROJECT, files, sha256
from requests_toolbelt.multipart.decoder import (  # type: ignore[import-untyped]
    MultipartDecoder,
)

from rehearse.identity import IdentityProvider
from rehearse.server import Server


class Index:
    """Test PyPI or PyPI: a folder of files, behind the addresses that twine and pip use."""

    def __init__(
        self,
        name: str,
        folder: Path,
        tls: ssl.SSLContext,
        identities: IdentityProvider,
        publisher: dict[str, str],
    ) -> None:
        """Start it; `publisher` is the workflow and the environment that it trusts."""
        self.name = name
        self.folder = folder
        folder.mkdir(parents=True)
        self.identities = identities
        self.publisher = publisher
        self.tokens: set[str] = set()
        self.hangs = threading.Event()
        self.room: int | None = None  # for how many more files
        index = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 60

            def do_GET(self) -> None:
                index.handle(self, index.get)

            def do_POST(self) -> None:
                index.handle(self, index.post)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = Server(Handler, tls)
        self.upload_url = f"{self.server.address}/legacy/"
        self.stopped = threading.Event()

    def stop(self) -> None:
        """Refuse connections, and let go of the hanging ones."""
        self.stopped.set()
        self.server.stop()

    def names(self) -> list[str]:
        """Return the names of the files that were uploaded."""
        return [path.name for path in files(self.folder)]

    def hang_at_upload(self) -> None:
        """Answer until somebody uploads, and never again."""
        self.room = -1

    def handle(self, request: BaseHTTPRequestHandler, answer: Any) -> None:
        """Answer, unless the index is to accept connections without answering."""
        if self.hangs.is_set():
            self.stopped.wait()
            return
        status, content = answer(request)
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        request.send_response(status)
        request.send_header("Content-Type", "text/html" if content is body else "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def get(self, request: BaseHTTPRequestHandler) -> tuple[int, object]:
        """Show the project's page, a file, or the audience that a token must have."""
        path = request.path
        if path == "/_/oidc/audience":
            return 200, {"audience": self.name}
        if path == f"/simple/{PROJECT}/" and self.names():
            links = (
                f'<a href="/files/{html.escape(file.name)}#sha256={sha256(file)}">{file.name}</a>'
                for file in files(self.folder)
            )
            return 200, "<br>".join(links).encode()
        file = self.folder / path.removeprefix("/files/")
        if path.startswith("/files/") and file.name in self.names():
            return 200, file.read_bytes()
        return 404, b"not found"

    def post(self, request: BaseHTTPRequestHandler) -> tuple[int, object]:
        """Exchange an identity for a token, or take a file."""
        body = request.rfile.read(int(request.headers["Content-Length"]))
        if request.path == "/_/oidc/mint-token":
            return self.mint(str(json.loads(body)["token"]))
        scheme, _, credentials = (request.headers["Authorization"] or "").partition(" ")
        user, _, password = b64decode(credentials).decode().partition(":")
        if scheme != "Basic" or user != "__token__" or password not in self.tokens:
            return 403, b"Invalid or non-existent authentication information."
        if self.room == -1:
            self.hangs.set()
            self.stopped.wait()
        if self.room == 0:
            return 503, b"no room"
        return self.take(body, request.headers["Content-Type"])

    def mint(self, identity: str) -> tuple[int, object]:
        """Give a token to the workflow and environment that are this project's publisher."""
        claims = self.identities.claims(identity)
        if not claims or claims["aud"] != self.name:
            return 422, problem("invalid-payload", "malformed JWT")
        if any(claims[name] != value for name, value in self.publisher.items()):
            return 422, problem("invalid-publisher", "valid token, but no corresponding publisher")
        token = secrets.token_urlsafe()
        self.tokens.add(token)
        return 200, {"success": True, "token": token}

    def take(self, body: bytes, kind: str) -> tuple[int, object]:
        """Store an uploaded file, unless there is another one of its name."""
        form: dict[str, bytes] = {}
        name = ""
        for part in MultipartDecoder(body, kind).parts:
            headers: Any = part.headers
            fields = headers[b"Content-Disposition"].decode().split("; ")
            pairs = dict(field.split("=", 1) for field in fields[1:])
            form[pairs["name"].strip('"')] = part.content
            name = pairs.get("filename", name).strip('"')
        digest = hashlib.sha256(form["content"]).hexdigest()
        file = self.folder / name
        if form["sha256_digest"].decode() != digest:
            return 400, b"The digest supplied does not match the file."
        if not any(attested(one, name, digest) for one in json.loads(form["attestations"])):
            return 400, b"Invalid attestations supplied during upload."
        if file.exists() and sha256(file) != digest:
            return 400, b"File already exists."
        file.write_bytes(form["content"])
        if self.room is not None:
            self.room -= 1
        return 200, b""


def attested(attestation: Any, name: str, digest: str) -> bool:
    """Whether an attestation is about this file."""
    statement = json.loads(b64decode(attestation["envelope"]["statement"]))
    return bool(statement["subject"] == [{"name": name, "digest": {"sha256": digest}}])


def problem(code: str, description: str) -> dict[str, object]:
    """Return an error in the form that twine shows."""
    return {
        "message": "Token request failed",
        "errors": [{"code": code, "description": description}],
    }
