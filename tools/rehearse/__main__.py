"""Rehearse a release, its promotion and all their failures, with the real workflows.

release.yml and promote.yml of the last commit run under `act`, against two package indexes on the
loopback interface; stand_ins/README.md says what is real. Only pip's downloads leave the machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from textwrap import indent

from problems import reported

from rehearse.failures import FAILURES, Failure, fail
from rehearse.plays import promote, release
from rehearse.stage import Theatre


def main() -> None:
    """Play what the command line asks for."""
    parser = argparse.ArgumentParser(prog="tools/run rehearse", description=__doc__)
    parser.add_argument("--workflows", type=Path, help="a folder with other workflow files")
    parser.add_argument("--only", metavar="WORDS", help="of the failures, those that match")
    parser.add_argument("--jobs", type=int, default=2, help="how many to play at a time")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work there, and keep it all")
    options = parser.parse_args()
    chosen = [one for one in FAILURES if not options.only or options.only in one.what]
    with reported("rehearse"), tempfile.TemporaryDirectory(prefix="pychrony-rehearsal-") as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        play(Theatre(folder, options.workflows), chosen, options.jobs)


def play(theatre: Theatre, failures: list[Failure], jobs: int) -> None:
    """Run the release, then its promotion and the failures; stop if one ends unexpectedly."""
    begin = time.monotonic()
    print("release.yml, from the tag to Test PyPI:", flush=True)
    stage = release(theatre)
    pool = ThreadPoolExecutor(jobs)
    try:
        plays = {
            pool.submit(promote, theatre, stage): "promote.yml, from Test PyPI to PyPI and GitHub"
        }
        plays |= {pool.submit(fail, theatre, stage, failure): failure.what for failure in failures}
        for future in as_completed(plays):
            print(f"{plays[future]}:\n{indent(future.result(), '  ')}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
        stage.stop()
    print(f"1 release, 1 promotion and {len(failures)} failures", end=" ")
    print(f"went as they should, in {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
