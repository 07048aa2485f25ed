"""Rehearse a release: from the tag to PyPI, and without the reviewer that PyPI has to wait for.

release.yml of the last commit runs under `act`; README.md says which parts are real.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import pairwise
from pathlib import Path

from artifacts import KINDS
from problems import ReleaseError, reported

from rehearse.act import Run
from rehearse.stage import INDEXES, TAG, VERSION, Stage


def main() -> None:
    """Play what the command line asks for."""
    parser = argparse.ArgumentParser(prog="tools/run rehearse", description=__doc__)
    parser.add_argument("--workflow", type=Path, help="another release.yml")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work there, and keep it all")
    options = parser.parse_args()
    with reported("rehearse"), tempfile.TemporaryDirectory(prefix="pychrony-rehearsal-") as scratch:
        stage = Stage(options.keep or Path(scratch), options.workflow)
        release_without_reviewer(stage)
        release(stage)


def release(stage: Stage) -> None:
    """Play a release that succeeds; stop unless all files reach all places, in this order."""
    run = stage.play()
    for title, job in run.jobs.items():
        print(f"{title}: {job.result}", flush=True)
    expect(not run.failed, "a job failed", run)
    ran = {job.id for job in run.jobs.values()}
    expect(ran == stage.jobs.keys(), f"the jobs {ran ^ stage.jobs.keys()} did not run", run)
    for earlier, later in pairwise(stage.jobs):
        expect(run.ends_before(earlier, later), f"{later} did not wait for {earlier}", run)
    names = stage.published("testpypi")
    expect(len(names) == len(KINDS), f"Test PyPI has {sorted(names)}", run)
    expect(stage.published("pypi") == names, f"PyPI has {sorted(stage.published('pypi'))}", run)
    attested = (stage.folder / "attested").read_text().split()
    expect(attested == sorted(names), f"attested are {attested}", run)
    tag, *rest = (stage.folder / "release").read_text().split()
    assets = {word.rpartition("/")[2] for word in rest}
    expect(tag == TAG and names | {"SHA256SUMS"} <= assets, f"GitHub has {tag}, {rest}", run)
    expect("--prerelease=false" in rest, f"{VERSION} is no pre-release", run)
    expect((stage.folder / "docs").exists(), "nobody started docs.yml", run)


def release_without_reviewer(stage: Stage) -> None:
    """Play a release that PyPI would not wait for; stop unless it ends before it begins."""
    run = stage.play(reviewers=False)
    said = [error for error in run.errors if "Required reviewers" in error]
    expect(run.failed == ["check"] and bool(said), "it did not ask for a reviewer", run)
    expect(not any(map(stage.published, INDEXES)), "it published without a reviewer", run)
    print(f"without a reviewer: {said[0]}")


def expect(holds: bool, otherwise: str, run: Run) -> None:
    """Stop with the story of the run unless something holds."""
    if not holds:
        raise ReleaseError(f"release.yml: {otherwise}\n{run.story()}")


if __name__ == "__main__":
    main()
