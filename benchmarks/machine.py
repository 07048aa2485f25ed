"""Describes the machine and the programs, without anything that identifies this machine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path

import pychrony


def describe() -> dict[str, str]:
    """Return what a reader must know to judge the figures."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": processor(),
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "chrony": chrony(),
        "pychrony": pychrony.__version__,
    }


def processor() -> str:
    """Return model and number of the processors, and whether they are virtual."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)", text, re.MULTILINE)
    cores = os.cpu_count()
    virtual = ", virtual" if re.search(r"^flags\s*:.*\bhypervisor\b", text, re.MULTILINE) else ""
    return f"{model[1] if model else platform.machine()}, {cores} cores{virtual}"


def chrony() -> str:
    """Return the version of chronyc, and so of chronyd beside it."""
    command = ["chronyc", "--version"]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return words[words.index("version") + 1]
