"""Reads Prometheus' web configuration file: TLS and passwords, as exporter-toolkit defines them."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import bcrypt
import yaml
from aiohttp import BasicAuth

VERSIONS = {
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
CLIENTS = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
SECTIONS = {"tls_server_config": dict, "basic_auth_users": dict, "http_server_config": dict}
TLS_KEYS = {
    "cert_file": str,
    "key_file": str,
    "client_auth_type": str,
    "client_ca_file": str,
    "min_version": str,
    "max_version": str,
    "cipher_suites": list,
    "prefer_server_cipher_suites": bool,
}
BCRYPT = re.compile(rb"\$2[abxy]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z\d]{53}")
KINDS = {str: "a text", list: "a list", bool: "true or false", dict: "a mapping"}


class ConfigError(Exception):
    """The file cannot be used; the message is for the operator."""


class WebConfig:
    """The settings in the file. Without a file, there is no TLS, and no password is needed."""

    def __init__(self, path: Path | None = None) -> None:
        """Read the file and the certificates; raise `ConfigError`."""
        self.tls: ssl.SSLContext | None = None
        self._users: Mapping[str, bytes] = {}
        self._verified: set[bytes] = set()
        self._one = asyncio.Lock()
        if path is None:
            return
        try:
            found = _table(yaml.safe_load(path.read_text()) or {}, SECTIONS)
            self._users = _users(found.get("basic_auth_users") or {})
            if found.get("tls_server_config"):
                self.tls = _tls(_table(found["tls_server_config"], TLS_KEYS), path.parent)
            _table(found.get("http_server_config") or {}, {"http2": bool})  # HTTP/1.1 always works
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: {_why(error, path)}") from error

    async def admits(self, authorization: str | None) -> bool:
        """Whether a request may be answered.

        A password that was right is remembered, since checking one takes long. Others are checked
        one at a time, so that guessing cannot occupy all processors.
        """
        if not self._users:
            return True
        try:
            user, password, _ = BasicAuth.decode(authorization or "", encoding="utf-8")
        except ValueError:
            return False
        # For a user who does not exist, checking takes just as long.
        expected = self._users.get(user, next(iter(self._users.values())))
        key = hashlib.sha256(b"\0".join((user.encode(), password.encode(), expected))).digest()
        if key in self._verified:
            return True
        async with self._one:
            right = await asyncio.to_thread(_is_right, password, expected) and user in self._users
        if right:
            self._verified.add(key)
        return right


def _why(error: Exception, path: Path) -> str:
    """Return what is wrong in one line, with the name of the file if it is not `path`."""
    if isinstance(error, OSError) and error.filename:
        name = "" if error.filename == str(path) else f"{error.filename}: "
        return f"{name}{error.strerror}"
    return " ".join(str(error).split())


def _is_right(password: str, expected: bytes) -> bool:
    try:
        return bcrypt.checkpw(password.encode(), expected)
    except ValueError:  # longer than bcrypt's 72 bytes
        return False


def _table(found: Any, keys: Mapping[str, type]) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"expected a mapping with {', '.join(keys)}")
    for key, value in found.items():
        if key not in keys:
            raise ValueError(f"{key!r} is not supported; known here are {', '.join(keys)}")
        if value is not None and not isinstance(value, keys[key]):
            raise ValueError(f"{key} must be {KINDS[keys[key]]}")
    return found


def _users(found: dict[Any, Any]) -> dict[str, bytes]:
    users = {str(user): str(hashed).encode() for user, hashed in found.items()}
    for user, hashed in users.items():
        if not BCRYPT.fullmatch(hashed):
            raise ValueError(f"the password of {user!r} is not a bcrypt hash")
    return users


def _tls(found: dict[str, Any], folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for key in ("cert_file", "key_file"):
        if not found.get(key):
            raise ValueError(f"tls_server_config lacks {key}")
    context.minimum_version = _choice(found, "min_version", VERSIONS, "TLS12")
    context.maximum_version = _choice(found, "max_version", VERSIONS, "TLS13")
    if suites := found.get("cipher_suites"):
        context.set_ciphers(":".join(map(_openssl_name, suites)))
    if found.get("prefer_server_cipher_suites") is False:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    # Given a password, OpenSSL does not ask the terminal for that of an encrypted key.
    load = partial(context.load_cert_chain, password="")
    files = folder / found["cert_file"], folder / found["key_file"]
    _load(load, "a certificate and its private key without a password", *files)
    mode = _choice(found, "client_auth_type", CLIENTS, "NoClientCert")
    authorities = found.get("client_ca_file")
    if bool(authorities) != (mode is not ssl.CERT_NONE):
        raise ValueError("client_ca_file and a client_auth_type that verifies belong together")
    if authorities:
        _load(context.load_verify_locations, "certificates", folder / authorities)
    context.verify_mode = mode
    return context


def _load(load: Callable[..., None], what: str, *paths: Path) -> None:
    """Load files; raise an error that names them, as OpenSSL's does not."""
    for path in paths:
        path.open().close()
    try:
        load(*paths)
    except OSError as error:
        names = " and ".join(map(str, paths))
        raise ValueError(f"{names}: not {what}: {error.strerror or error}") from None


def _choice(found: dict[str, Any], key: str, choices: Mapping[str, Any], default: str) -> Any:
    value = found.get(key) or default
    if value not in choices:
        raise ValueError(f"{key} {value!r} is not supported; choose from {', '.join(choices)}")
    return choices[value]


def _openssl_name(suite: Any) -> str:
    """Return OpenSSL's name of a cipher suite of TLS 1.2: the file has IANA's."""
    name = str(suite).removeprefix("TLS_").replace("_WITH_", "_").replace("AES_", "AES")
    name = name.replace("_CBC_", "_").replace("_", "-").removeprefix("RSA-")
    return name.removesuffix("-SHA256") if "CHACHA20" in name else name
