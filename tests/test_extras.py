"""Tests that an unused extra costs nothing, and that a missing one says what to install."""

from __future__ import annotations

import pytest
from programs import output, run

from pychrony.testing import PrivateChronyd

EXTRAS = ("aiohttp", "bcrypt", "prometheus_client", "yaml", "matplotlib", "numpy", "pandas")


@pytest.mark.parametrize(
    "use",
    [
        "import pychrony; pychrony.get_tracking(ADDRESS)",
        "import pychrony._command.cli as c; c.main(['all', '--json', '--address', ADDRESS])",
    ],
)
def test_an_extra_that_is_not_used_is_not_imported(use: str, chronyd: PrivateChronyd) -> None:
    address = f"ADDRESS = {chronyd.address!r}"
    check = f"import sys; print('', *sys.modules.keys() & set({EXTRAS!r}), sep='')"
    assert output(f"{address}\n{use}\n{check}").splitlines()[-1] == ""


@pytest.mark.parametrize(
    ("arguments", "module", "words"),
    [
        (["exporter"], "prometheus_client", "exporter needs prometheus-client and aiohttp: "),
        (["exporter"], "aiohttp", "exporter needs prometheus-client and aiohttp: "),
        (["plot", "x.log", "-o", "x.svg"], "matplotlib", "plot needs matplotlib: "),
    ],
)
def test_a_missing_extra_says_what_to_install(
    arguments: list[str], module: str, words: str
) -> None:
    without = f"import sys; sys.modules[{module!r}] = None"
    use = f"import pychrony._command.cli as c; sys.exit(c.main({arguments!r}))"
    done = run(f"{without}\n{use}")
    extra = "plot" if arguments[0] == "plot" else "prometheus"
    assert done.stderr == f"pychrony: {words}pip install 'pychrony[{extra}]'\n"
    assert done.returncode == 2
