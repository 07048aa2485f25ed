"""Provides a scripted chronyd, which answers from a dict and has faults on demand.

with ScriptedChronyd({Command.N_SOURCES: 1, Command.SOURCES: source(poll=-4)}) as chronyd:
    ask(chronyd.address)
"""

from .chronyd import TRANSPORTS, ScriptedChronyd, Transport
from .faults import (
    at,
    delay,
    dies,
    drip,
    drop,
    duplicate,
    garbage,
    header,
    instead,
    on,
    refuse,
    resize,
    restarts,
    stale,
    wrong,
)
from .requests import Answer, Entry, Fault, Request, Script, honest
from .scripts import OPEN_COMMANDS, changing, in_turn, script

__all__ = [
    "OPEN_COMMANDS",
    "TRANSPORTS",
    "Answer",
    "Entry",
    "Fault",
    "Request",
    "Script",
    "ScriptedChronyd",
    "Transport",
    "at",
    "changing",
    "delay",
    "dies",
    "drip",
    "drop",
    "duplicate",
    "garbage",
    "header",
    "honest",
    "in_turn",
    "instead",
    "on",
    "refuse",
    "resize",
    "restarts",
    "script",
    "stale",
    "wrong",
]
