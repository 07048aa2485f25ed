"""Read chronyd's monitoring reports through libchrony.

Functions such as `get_tracking()` open a connection, read one report and close it;
`ChronyConnection` stays open for any number of calls. The first call loads libchrony.
"""

TYPE_CHECKING = False  # type checkers know this name; importing typing takes milliseconds

# The public names are those in the `__all__` of these modules; they are listed nowhere else.

if TYPE_CHECKING:
    from ._io.library import *
    from ._version import __version__ as __version__
    from .assessment import *
    from .clock import *
    from .connection import *
    from .exceptions import *
    from .many import *
    from .models import *
else:
    from importlib import import_module
    from os import register_at_fork
    from threading import RLock

    _MODULES = (
        "_io.library",
        "assessment",
        "clock",
        "connection",
        "exceptions",
        "many",
        "models",
    )

    # The modules are imported when a name is first used (PEP 562): pytest imports this package in
    # every project, for the plug-in, and should not wait for modules that the project may not need.

    # A child that is forked while another thread imports them would wait for that thread for ever.
    _importing = RLock()
    register_at_fork(
        before=_importing.acquire,
        after_in_parent=_importing.release,
        after_in_child=_importing.release,
    )

    def __getattr__(name):
        if name in ("__all__", "__version__") or not name.startswith("__"):
            _import_names()
        if name in globals():
            return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        _import_names()
        return sorted(globals())

    def _import_names():
        with _importing:
            names = {"__version__": import_module("._version", __name__).__version__}
            for module in (import_module(f".{module}", __name__) for module in _MODULES):
                names |= {name: getattr(module, name) for name in module.__all__}
            globals().update(names, __all__=sorted(names))
