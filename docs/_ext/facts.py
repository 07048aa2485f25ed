"""Describes fields for the reference, from the package's own tables."""

from __future__ import annotations

import importlib.util

from pychrony._model.fields import Report
from pychrony._model.meanings import meanings

UNITS = {"s": "seconds", "log2 s": "powers of two of a second", "ppm": "parts per million (ppm)"}


def present(*modules: str) -> tuple[str, ...]:
    """Return the modules that exist."""
    return tuple(module for module in modules if importlib.util.find_spec(module))


def describe(owner: type, attribute: str) -> list[str]:
    """Return reStructuredText with a field's unit, its sign, and libchrony's name."""
    found = meanings(owner).get(attribute) if issubclass(owner, Report) else None
    if found is None:
        return []
    facts, origin = [], found.origin
    if found.unit:
        facts.append(f"Unit: {UNITS.get(found.unit, found.unit)}")
    if origin.positive:
        facts.append(f"Positive: {origin.positive}")
    if origin.since:
        facts.append(f"Since chronyd {origin.since}")
    facts.append("libchrony: " + " or ".join(f"``{name}``" for name in origin.names))
    return ["", ".. container:: facts", "", f"   {' · '.join(facts)}"]
