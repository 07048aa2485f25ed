"""Stands in for GitHub's identity provider, which tells an index which job is asking."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from rehearse.server import Server
from rehearse.stand_ins import claims
from rehearse.workflow import Workflow


class IdentityProvider:
    """Signs the identity of each job that has the permission to ask for it."""

    def __init__(self) -> None:
        """Listen on the loopback interface."""
        self.key = secrets.token_bytes()
        self.bearer = secrets.token_hex()
        self.workflow: Workflow | None = None
        self.ref = ""
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = Server(Handler)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Give a job the token that GitHub's runner would give it."""
        url = urlsplit(request.path)
        job = url.path.strip("/")
        audience = parse_qs(url.query).get("audience", [""])[0]
        permitted = self.workflow and self.workflow.permits(job, "id-token") == "write"
        if request.headers["Authorization"] != f"bearer {self.bearer}" or not permitted:
            request.send_error(403, f"job {job} lacks the permission id-token: write")
            return
        body = json.dumps({"value": self.sign(job, audience)}).encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def sign(self, job: str, audience: str) -> str:
        """Return the signed claims about a job."""
        assert self.workflow
        claims = {
            "aud": audience,
            "workflow": self.workflow.path.name,
            "environment": self.workflow.jobs[job].get("environment"),
            "ref": self.ref,
            "runner_environment": "github-hosted",
        }
        header = {"alg": "HS256", "typ": "JWT"}
        text = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
        return f"{text}.{self.signature(text)}"

    def claims(self, token: str) -> dict[str, Any] | None:
        """Return the claims of a token, if it was signed here."""
        text, _, signature = token.rpartition(".")
        return claims(token) if hmac.compare_digest(signature, self.signature(text)) else None

    def signature(self, text: str) -> str:
        """Sign a text."""
        return encoded(hmac.new(self.key, text.encode(), hashlib.sha256).digest())


def encoded(part: bytes) -> str:
    """Return a part of a JSON Web Token."""
    return base64.urlsafe_b64encode(part).decode().rstrip("=")
