"""Redirects the two indexes that twine knows to this machine, in every Python of a job."""

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType


class Loader(SourceFileLoader):
    """Loads `twine.utils`, and changes two constants of it."""

    def exec_module(self, module: ModuleType) -> None:
        """Load the module as it is, then change it."""
        super().exec_module(module)
        vars(module)["DEFAULT_REPOSITORY"] = os.environ["PYCHRONY_REHEARSAL_PYPI"]
        vars(module)["TEST_REPOSITORY"] = os.environ["PYCHRONY_REHEARSAL_TESTPYPI"]


class Finder(MetaPathFinder):
    """Finds `twine.utils` where it is, for the loader above."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Leave all other modules to the usual finders."""
        spec = PathFinder.find_spec(name, path) if name == "twine.utils" else None
        if spec and spec.origin:
            spec.loader = Loader(name, spec.origin)
        return spec


if "PYCHRONY_REHEARSAL_PYPI" in os.environ:
    sys.meta_path.insert(0, Finder())
