"""actions/checkout: fetches the event's commit from the repository of the rehearsal."""

from __future__ import annotations

import os
import subprocess

from rehearse.stand_ins import append, inputs, require_permission, settings


def main() -> None:
    """Fetch to the requested depth, and check out."""
    require_permission("contents", "read")
    origin, ref = f"file://{settings()['origin']}", os.environ["GITHUB_REF"]
    git("init", "--quiet", ".")
    git("remote", "add", "origin", origin)
    if inputs()["fetch-depth"] == "0":
        refs = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
        git("fetch", "--quiet", "origin", *refs)
        git("checkout", "--quiet", "--detach", ref.replace("refs/heads/", "refs/remotes/origin/"))
    else:
        depth = f"--depth={inputs()['fetch-depth']}"
        git("fetch", "--quiet", "--no-tags", depth, "origin", ref)
        git("checkout", "--quiet", "--detach", "FETCH_HEAD")
    # The runner does this on GitHub, before any step; act does not.
    append("GITHUB_ENV", f"ACTIONS_ID_TOKEN_REQUEST_URL={settings()['identity']}/{here()}")
    append("GITHUB_ENV", f"ACTIONS_ID_TOKEN_REQUEST_TOKEN={settings()['bearer']}")


def here() -> str:
    """Return the id of this job."""
    return os.environ["GITHUB_JOB"]


def git(*arguments: str) -> None:
    """Run git in the workspace."""
    subprocess.run(["git", "-c", "init.defaultBranch=main", *arguments], check=True)


if __name__ == "__main__":
    main()
