"""`python -m pypi_attestations sign FILE...`: writes attestations of the real form, unsigned.

It must run in any Python of a job, so it imports only the standard library.
"""

import base64
import hashlib
import json
import os
import sys
import urllib.request

PREDICATE = "urn:pychrony:rehearsal"
"""The predicate type; not the real one, so that no attestation of a rehearsal is taken for real."""


def identity() -> str:
    """Ask GitHub's identity provider who this job is, as Sigstore's client does."""
    url = os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"] + "?audience=sigstore"
    bearer = "bearer " + os.environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
    request = urllib.request.Request(url, headers={"Authorization": bearer})
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(json.load(response)["value"])


def attest(path: str, certificate: str) -> None:
    """Write the attestation of a file beside it."""
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": os.path.basename(path), "digest": {"sha256": digest}}],
        "predicateType": PREDICATE,
        "predicate": None,
    }
    content = {
        "version": 1,
        "verification_material": {"certificate": certificate, "transparency_entries": []},
        "envelope": {
            "statement": base64.b64encode(json.dumps(statement).encode()).decode(),
            "signature": "",
        },
    }
    with open(path + ".publish.attestation", "w") as file:
        json.dump(content, file)


def main() -> None:
    """Sign all files."""
    if sys.argv[1:2] != ["sign"]:
        sys.exit("pypi_attestations (stand-in): only 'sign FILE...' is known here")
    certificate = identity()
    for path in sys.argv[2:]:
        attest(path, certificate)


if __name__ == "__main__":
    main()
