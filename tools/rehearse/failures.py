"""Defines releases that fail: each fails in one job, with a message that RELEASING.md explains."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from artifacts import files
from problems import ReleaseError

from rehearse.origin import VERSION
from rehearse.stage import Stage, Theatre

TAG = f"v{VERSION}"
BRIEFLY = 4.0
"""Seconds of patience where a step would only wait."""
Change = Callable[[Stage], None]


def nothing(stage: Stage) -> None:
    """Leave everything as it is."""


@dataclass(frozen=True)
class Failure:
    """What goes wrong, which job fails, and with which of RELEASING.md's messages."""

    what: str
    workflow: str
    job: str
    says: str
    value: str = TAG
    prepare: Change = nothing
    patience: float | None = None
    mend: Change | None = None
    """What makes a second attempt succeed, if anything does."""


def publish_all(index: str) -> Change:
    """Put all files of the release on an index."""
    return lambda stage: stage.fill(index)


def publish_one(index: str) -> Change:
    """Put one file of the release on an index."""
    return lambda stage: stage.fill(index, 1)


def other_content(index: str) -> Change:
    """Put another build of one file on an index."""

    def change(stage: Stage) -> None:
        stage.fill(index, 1)
        with files(stage.indexes[index].folder)[0].open("ab") as file:
            file.write(b"\0")

    return change


def other_file(index: str) -> Change:
    """Put another file of the same version on an index, in addition to the release."""

    def change(stage: Stage) -> None:
        folder = stage.indexes[index].folder
        wheel = folder / f"pychrony-{VERSION}-py3-none-any.whl"
        wheel.write_bytes(b"not a wheel of ours")

    return change


def replaced_on_testpypi(stage: Stage) -> None:
    """Replace a file on Test PyPI, as only its operators could."""
    stage.fill("testpypi")
    with files(stage.indexes["testpypi"].folder)[0].open("ab") as file:
        file.write(b"\0")


def built_elsewhere(stage: Stage) -> None:
    """Let the attestations say that the files were built from a branch."""
    stage.fill("testpypi")
    for record in stage.attestations.iterdir():
        record.write_text(record.read_text().replace(f"refs/tags/{TAG}", "refs/heads/main"))


def self_hosted(stage: Stage) -> None:
    """Let the attestations say that somebody's own machine built the files."""
    stage.fill("testpypi")
    for record in stage.attestations.iterdir():
        record.write_text(record.read_text().replace("github-hosted", "self-hosted"))


def down(index: str) -> Change:
    """Let an index refuse connections."""
    return lambda stage: stage.indexes[index].stop()


def hanging(index: str) -> Change:
    """Let an index accept connections, and never answer."""
    return lambda stage: stage.indexes[index].hangs.set()


def answering(index: str) -> Change:
    """Let it answer again."""
    return lambda stage: stage.indexes[index].hangs.clear()


def filling_up(index: str) -> Change:
    """Let an index accept some files, and fail at the next one."""

    def change(stage: Stage) -> None:
        stage.indexes[index].room = 4

    return change


def emptied(index: str) -> Change:
    """Let an index accept files again."""

    def change(stage: Stage) -> None:
        stage.indexes[index].room = None

    return change


def without_a_wheel(stage: Stage) -> None:
    """Lose what one job of the matrix built."""
    shutil.rmtree(sorted(stage.artifacts.glob("wheels-*"))[0])


def stranger(index: str) -> Change:
    """Let an index trust another environment."""

    def change(stage: Stage) -> None:
        stage.indexes[index].publisher["environment"] = "staging"

    return change


def both(*changes: Change) -> Change:
    """Do one thing after another."""

    def change(stage: Stage) -> None:
        for one in changes:
            one(stage)

    return change


RELEASE, PROMOTE = "release.yml", "promote.yml"
FAILURES = [
    Failure("a tag that is no version", RELEASE, "sdist", "is no version", "vlatest"),
    Failure(
        "a tag that no file is named after",
        RELEASE,
        "sdist",
        "is not how files will be named",
        "v999.00",
    ),
    Failure("a version without a changelog", RELEASE, "sdist", "has no section", "v998.0.0"),
    Failure("a commit that is not on main", RELEASE, "sdist", "is not on main", "v997.0.0"),
    Failure("a commit whose CI failed", RELEASE, "sdist", "CI has not succeeded", "v996.0.0"),
    Failure("a commit whose CI still runs", RELEASE, "sdist", "CI has not succeeded", "v995.0.0"),
    Failure("a commit without CI", RELEASE, "sdist", "CI has not succeeded", "v994.0.0"),
    Failure(
        "a version that Test PyPI has",
        *(RELEASE, "sdist", "has pychrony"),
        prepare=publish_all("testpypi"),
    ),
    Failure(
        "a version that PyPI has a part of",
        *(RELEASE, "sdist", "has pychrony"),
        prepare=publish_one("pypi"),
    ),
    Failure(
        "an index that is down before anything is built",
        *(RELEASE, "sdist", "does not answer"),
        prepare=down("pypi"),
        patience=BRIEFLY,
    ),
    Failure("a wheel that is missing", RELEASE, "collect", "lacks", prepare=without_a_wheel),
    Failure("a second tag", RELEASE, "collect", "is not pychrony", "v994.0.0"),
    Failure(
        "Test PyPI is down",
        *(RELEASE, "publish", "does not answer"),
        prepare=down("testpypi"),
        patience=BRIEFLY,
    ),
    Failure(
        "Test PyPI accepts connections, and never answers",
        *(RELEASE, "publish", "does not answer"),
        prepare=hanging("testpypi"),
        patience=BRIEFLY,
        mend=answering("testpypi"),
    ),
    Failure(
        "Test PyPI stops answering during the upload",
        *(RELEASE, "publish", "does not answer"),
        prepare=lambda stage: stage.indexes["testpypi"].hang_at_upload(),
        patience=3 * BRIEFLY,
    ),
    Failure(
        "Test PyPI breaks the upload off",
        *(RELEASE, "publish", "goes on where it stopped"),
        prepare=filling_up("testpypi"),
        mend=emptied("testpypi"),
    ),
    Failure(
        "Test PyPI has another build of a file",
        *(RELEASE, "publish", "has other files named"),
        prepare=other_content("testpypi"),
    ),
    Failure(
        "Test PyPI has a file too many",
        *(RELEASE, "publish", "has files of pychrony"),
        prepare=other_file("testpypi"),
    ),
    Failure(
        "Test PyPI trusts another environment",
        *(RELEASE, "publish", "invalid-publisher"),
        prepare=stranger("testpypi"),
    ),
    Failure(
        "Test PyPI does not list the files",
        *(RELEASE, "verify", "does not list"),
        prepare=publish_one("testpypi"),
        patience=BRIEFLY,
    ),
    Failure(
        "a version that was not released", PROMOTE, "fetch", "has no pychrony", value="998.0.0"
    ),
    Failure(
        "Test PyPI never answers the promotion",
        *(PROMOTE, "fetch", "does not answer"),
        prepare=hanging("testpypi"),
        patience=BRIEFLY,
    ),
    Failure(
        "a file on Test PyPI that release.yml did not build",
        *(PROMOTE, "fetch", "is not a file that release.yml built"),
        prepare=replaced_on_testpypi,
    ),
    Failure(
        "files that release.yml built from a branch",
        *(PROMOTE, "fetch", "is not a file that release.yml built"),
        prepare=built_elsewhere,
    ),
    Failure(
        "files that were built on somebody's own machine",
        *(PROMOTE, "fetch", "is not a file that release.yml built"),
        prepare=self_hosted,
    ),
    Failure(
        "Test PyPI has a file too many to promote",
        *(PROMOTE, "fetch", "which a release does not consist of"),
        prepare=both(publish_all("testpypi"), other_file("testpypi")),
    ),
    Failure(
        "PyPI never answers",
        *(PROMOTE, "publish", "does not answer"),
        prepare=hanging("pypi"),
        patience=BRIEFLY,
        mend=answering("pypi"),
    ),
    Failure(
        "PyPI has another build of a file",
        *(PROMOTE, "publish", "has other files named"),
        prepare=other_content("pypi"),
    ),
    Failure(
        "PyPI does not list the files",
        *(PROMOTE, "verify", "does not list"),
        patience=BRIEFLY,
    ),
]


def fail(theatre: Theatre, done: Stage, failure: Failure) -> str:
    """Run a failure on its own stage; return the messages."""
    stage = Stage(theatre, failure.what)
    try:
        stage.keep(done)
        failure.prepare(stage)
        run = stage.play(failure.workflow, failure.value, [failure.job], failure.patience)
        said = [error for error in run.errors if failure.says in error]
        if run.failed != [failure.job] or not said:
            raise ReleaseError(
                f"{failure.what}: the job {failure.job} should have failed with "
                f"{failure.says!r}:\n{run.story()}"
            )
        in_time(theatre, failure, run.waited)
        if failure.mend:
            failure.mend(stage)
            again = stage.play(failure.workflow, failure.value, [failure.job])
            if again.failed or again.status:
                raise ReleaseError(f"{failure.what}: the re-run failed, too:\n{again.story()}")
        return said[0]
    finally:
        stage.stop()


def in_time(theatre: Theatre, failure: Failure, waited: float) -> None:
    """Stop unless the message would come before GitHub ends the job, with its full patience.

    The earlier steps of the job do not count: their duration depends on the load of this machine.
    """
    workflow = theatre.workflow(failure.workflow)
    if failure.patience is not None:
        waited += workflow.patience(failure.job) - failure.patience
    if waited > workflow.timeout(failure.job):
        raise ReleaseError(
            f"{failure.what}: the step of {failure.job} would take {waited:.0f} s until its "
            f"message, and GitHub ends the job after {workflow.timeout(failure.job):.0f} s"
        )
