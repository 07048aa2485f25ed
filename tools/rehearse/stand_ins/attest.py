"""actions/attest: notes which workflow, for which ref, made the files; `gh` looks it up there."""

from __future__ import annotations

import json
from pathlib import Path

from rehearse.stand_ins import claims, identity, inputs, require_permission, settings


def main() -> None:
    """Write down an attestation for each file."""
    require_permission("attestations", "write")
    signer = claims(identity("sigstore"))
    store = Path(settings()["attestations"])
    store.mkdir(parents=True, exist_ok=True)
    for line in Path(inputs()["subject-checksums"]).read_text().splitlines():
        digest, name = line.split()
        (store / digest).write_text(json.dumps({"name": name, **signer}))
        print(f"attested {name}")


if __name__ == "__main__":
    main()
