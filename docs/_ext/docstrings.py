"""Generates the reference from the package: every public name, and the facts about every field.

The docstrings are Markdown as editors show it. Sphinx's autodoc reads reStructuredText, so that
names between backticks become references here where the manual has an entry, and code elsewhere.
"""

from __future__ import annotations

import builtins
import dataclasses
import enum
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import facts
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import pychrony
from pychrony import exceptions
from pychrony._model.fields import Report
from pychrony._model.meanings import overview
from pychrony.models import MODELS

PACKAGE = "pychrony"
MODULES = ("pychrony", *facts.present("pychrony.aio", "pychrony.testing", "pychrony.prometheus"))
"""Modules that users import from, except those whose names are in the package itself."""


def is_kind(base: type) -> Callable[[Any], bool]:
    """Return a test for subclasses."""
    return lambda value: inspect.isclass(value) and issubclass(value, base)


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "exceptions": ("autoexception", is_kind(Exception)),
    "reports": ("autoclass", is_kind(Report)),
    "enums": ("autoclass", is_kind(enum.Enum)),
    "classes": ("autoclass", inspect.isclass),
    "functions": ("autofunction", inspect.isroutine),
    "data": ("autodata", lambda value: True),
}
"""Each kind of public name with autodoc's directive; the first kind that fits counts."""


def public_names(module: str, kind: str | None = None) -> list[str]:
    """Return the names that users import from a module, all or those of a kind."""
    found = importlib.import_module(module)
    order = [*vars(exceptions), *(model.__name__ for model in MODELS.values())]  # the base first
    return [
        name
        for name in sorted(found.__all__, key=lambda n: order.index(n) if n in order else -1)
        if not name.startswith("_")
        and (kind is None or kind_of(getattr(found, name)) == kind)
        and (module == PACKAGE or getattr(pychrony, name, None) is not getattr(found, name))
    ]


def kind_of(value: Any) -> str:
    """Return the kind of a public value."""
    return next(kind for kind, (_, fits) in KINDS.items() if fits(value))


class Public(SphinxDirective):
    """`{public} KIND`: an entry for each public name of this kind, of the package or a module."""

    required_arguments = 1
    option_spec: ClassVar = {"module": str}

    def run(self) -> list[nodes.Node]:
        """Let autodoc write the entries."""
        module = self.options.get("module", PACKAGE)
        kind = self.arguments[0]
        names = public_names(module, kind)
        if not names:
            raise self.error(f"{module} has no public {kind}")
        lines = [line for name in names for line in entry(module, name, kind)]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def entry(module: str, name: str, kind: str) -> list[str]:
    """Return the Markdown of an entry; a report has a heading, which the contents list."""
    heading = [f"## {name}", ""] if kind == "reports" else []
    directive = f".. {KINDS[kind][0]}:: {module}.{name}"
    return [*heading, "```{eval-rst}", directive, *options_for(kind), "```", ""]


def options_for(kind: str) -> list[str]:
    """Return autodoc's options; classes and reports also show inherited members."""
    if kind in ("functions", "data"):
        return []
    options = ["   :members:", "   :undoc-members:"]
    if kind in ("classes", "reports"):
        options.append("   :inherited-members: object, tuple")
    if kind == "exceptions":
        options.append("   :show-inheritance:")
    return options


def leave_out_constructor(
    app: Sphinx, what: str, name: str, value: Any, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """Leave out the arguments of a dataclass, which repeat its fields."""
    told = what == "class" and (dataclasses.is_dataclass(value) or is_kind(enum.Enum)(value))
    return ("", "") if told else None


def write_entry(
    app: Sphinx, what: str, name: str, value: Any, options: object, lines: list[str]
) -> None:
    """Turn a docstring into reStructuredText, and add the facts of a field."""
    owner = owner_of(name)
    if what == "class" and is_kind(Report)(value):
        lines[:] = overview(value).splitlines()  # without what `help()` says of fields
    inherited = what == "data" and inspect.getdoc(value) == inspect.getdoc(type(value))
    text = "" if inherited else "\n".join(lines)
    lines[:] = as_rest(text, owner, name).splitlines()
    if what == "attribute" and owner is not None:
        lines += facts.describe(owner, name.rpartition(".")[2])


def owner_of(name: str) -> type | None:
    """Return the class whose member this is."""
    value: Any = None
    for module in sorted(MODULES, key=len, reverse=True):
        if name.startswith(f"{module}."):
            value = importlib.import_module(module)
            for part in name[len(module) + 1 :].split(".")[:-1]:
                value = getattr(value, part)
            break
    return value if inspect.isclass(value) else None


def as_rest(markdown: str, owner: type | None, name: str) -> str:
    """Convert the simple Markdown of a docstring to reStructuredText."""
    module = name.rpartition(".")[0] if owner is None else name.rsplit(".", 2)[0]

    def mark(match: re.Match[str]) -> str:
        code = match[1]
        for target in targets(code.removesuffix("()"), owner, module):
            if target != name:
                return f":py:obj:`{code} <{target}>`"
        if is_kind(Exception)(getattr(builtins, code, None)):
            return f":py:exc:`{code}`"
        return f"``{code}``"

    parts = re.split(r"(?<!`)(`[^`\n]+`)(?!`)", markdown)
    text = "".join(
        re.sub("`(.*)`", mark, part) if index % 2 else re.sub(r"([|*]|_\b)", r"\\\1", part)
        for index, part in enumerate(parts)
    )
    # A line that ends with a colon before an indented block introduces code.
    return re.sub(r":\n\n(?=    )", "::\n\n", text)


def targets(code: str, owner: type | None, module: str) -> Iterator[str]:
    """Find which entry a name between backticks may stand for."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*", code):
        return
    head, _, rest = code.partition(".")
    if owner is not None and not rest and has_entry(owner, code):
        yield f"{module}.{owner.__name__}.{code}"
    for place in dict.fromkeys((module, PACKAGE)):
        if place in MODULES and head in public_names(place):
            value = getattr(importlib.import_module(place), head)
            if not rest or has_entry(value, rest):
                yield f"{place}.{code}"


def has_entry(owner: Any, name: str) -> bool:
    """Whether autodoc writes an entry for this member of a class."""
    fields = getattr(owner, "__annotations__", {})
    return not name.startswith("_") and (name in vars(owner) or name in fields)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("public", Public)
    app.connect("autodoc-process-docstring", write_entry)
    app.connect("autodoc-process-signature", leave_out_constructor)
    return {"parallel_read_safe": True}
