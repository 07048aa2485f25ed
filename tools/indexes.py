"""Asks a package index which files it has of a version of this project."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import NamedTuple

from artifacts import PROJECT
from problems import ReleaseError


class File(NamedTuple):
    """A file as an index lists it."""

    url: str
    sha256: str


def files(index: str, version: str) -> dict[str, File]:
    """Return the files that an index has of a version, by name; none before the first upload.

    `index` is a name that twine knows: `testpypi`, `pypi`, or a section of `~/.pypirc`. The answer
    comes from the index's JSON: for several minutes after an upload, its simple page may be old.
    """
    from twine.exceptions import TwineException
    from twine.utils import get_repository_from_config

    try:
        upload = get_repository_from_config("~/.pypirc", index)["repository"] or ""
    except TwineException as error:
        raise ReleaseError(f"twine knows no index {index!r}: {error}") from error
    # PyPI takes uploads on a separate host; Test PyPI does not.
    root = upload.replace("//upload.", "//", 1).removesuffix("/").removesuffix("/legacy")
    url = f"{root}/pypi/{PROJECT}/{version}/json"
    request = urllib.request.Request(url, headers={"Cache-Control": "no-cache"})
    try:
        with urllib.request.urlopen(request, timeout=15) as response:
            listed = json.load(response)["urls"]
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return {}
        raise ReleaseError(f"{index} answers {error}: re-run the failed jobs later") from error
    except (OSError, ValueError) as error:
        raise ReleaseError(
            f"{index} does not answer ({error}): re-run the failed jobs later"
        ) from error
    return {one["filename"]: File(one["url"], one["digests"]["sha256"]) for one in listed}
