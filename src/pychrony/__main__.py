"""Lets `python -m pychrony` do what the command `pychrony` does."""

import sys

from ._command.cli import main

sys.exit(main())
