"""Rehearses the release that succeeds, from the tag to Test PyPI, PyPI and GitHub."""

from __future__ import annotations

from textwrap import indent

from artifacts import KINDS, SUMS, files, sha256
from problems import ReleaseError

from rehearse.act import Run
from rehearse.origin import VERSION
from rehearse.stage import Stage, Theatre


def release(theatre: Theatre) -> Stage:
    """Run release.yml; the promotion and most failures start from its results."""
    stage = Stage(theatre, "release")
    run = stage.play("release.yml", f"v{VERSION}")
    print(indent(succeeded(run, theatre, "release.yml"), "  "), flush=True)
    uploaded = stage.indexes["testpypi"].names()
    if len(uploaded) != len(KINDS):
        raise ReleaseError(f"release.yml uploaded {uploaded}, which are not {len(KINDS)} files")
    return stage


def promote(theatre: Theatre, done: Stage) -> str:
    """Run promote.yml, then parts of it again, with the version given as its tag.

    Returns how long each job took.
    """
    stage = Stage(theatre, "promotion")
    try:
        stage.keep(done)
        stage.fill("testpypi")
        took = succeeded(stage.play("promote.yml", VERSION), theatre, "promote.yml")
        promoted(stage)
        for job in ("fetch", "publish", "github"):
            again = stage.play("promote.yml", f"v{VERSION}", [job])
            succeeded(again, theatre, "promote.yml", [job])
        return took
    finally:
        stage.stop()


def promoted(stage: Stage) -> None:
    """Stop unless PyPI and GitHub have what Test PyPI has."""
    there, here = (digests(stage, index) for index in ("testpypi", "pypi"))
    if there != here:
        raise ReleaseError(f"PyPI has {here}, and Test PyPI {there}")
    published = {path.name for path in stage.releases.joinpath(f"v{VERSION}").iterdir()}
    if published != {*here, SUMS, "NOTES"}:
        raise ReleaseError(f"the release on GitHub has {sorted(published)}")


def digests(stage: Stage, index: str) -> dict[str, str]:
    """Return the hashes of what an index has."""
    return {path.name: sha256(path) for path in files(stage.indexes[index].folder)}


def succeeded(run: Run, theatre: Theatre, name: str, jobs: list[str] | None = None) -> str:
    """Return how long each job took; stop unless all jobs ran and succeeded."""
    if run.failed or run.status:
        raise ReleaseError(f"{name} failed:\n{run.story()}")
    expected = {*(jobs or theatre.workflow(name).jobs)}
    if (ran := {job.id for job in run.jobs.values()}) != expected:
        raise ReleaseError(f"of {name}, the jobs {sorted(ran ^ expected)} did not run:\n{run.said}")
    return "\n".join(f"{title}: {job.seconds:.0f} s" for title, job in run.jobs.items())
