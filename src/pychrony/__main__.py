"""Runs the `pychrony` command as `python -m pychrony`."""

import sys

from ._command.cli import main

sys.exit(main())
