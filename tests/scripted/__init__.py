"""Provides a scripted chronyd, which answers from a dict and has faults on demand.

with ScriptedChronyd({Command.N_SOURCES: 1, Command.SOURCES: source(poll=-4)}) as chronyd:
    ask(chronyd.address)
"""

from .chronyd import ScriptedChronyd, Transport
from .scripts import OPEN_COMMANDS, Answer, Fault, Request, Script, changing, in_turn, script

__all__ = [
    "OPEN_COMMANDS",
    "Answer",
    "Fault",
    "Request",
    "Script",
    "ScriptedChronyd",
    "Transport",
    "changing",
    "in_turn",
    "script",
]
