"""Runs a program against a private chronyd with many sources: `races.py PROGRAM LIBCHRONY`."""

from __future__ import annotations

import subprocess
import sys

from pychrony.testing import PrivateChronyd

servers = "\n".join(f"server 127.0.1.{number} offline" for number in range(1, 40))
with PrivateChronyd(servers) as chronyd:
    program = [*sys.argv[1:], chronyd.address, chronyd.command_address]
    sys.exit(subprocess.run(program).returncode)
