"""Turns classes into dataclasses when that is first needed.

Importing `dataclasses` and generating the methods of all models takes longer than everything else
that a program needs to read a report and look at it. So the decorator here only notes the class.
Whatever needs the dataclass finds a stand-in in the base class, which then applies the standard
library's decorator. From then on, the class is as if it had been decorated at once.
"""

from __future__ import annotations

from .forks import fork_lock

TYPE_CHECKING = False  # as type checkers know it: to import typing takes milliseconds

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from typing import Any, TypeVar

    T = TypeVar("T")


class _StandIn:
    """Stands for an attribute that the decorator has not added to a class yet."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, record: object, owner: type) -> Any:
        _complete(owner)
        found = next(vars(cls)[self._name] for cls in owner.__mro__ if self._name in vars(cls))
        if found is self:  # this version of Python does not add it
            raise AttributeError(f"type object {owner.__name__!r} has no attribute {self._name!r}")
        return getattr(owner if record is None else record, self._name)


class _Field:
    """The arguments of `dataclasses.field`."""

    def __init__(self, **options: Any) -> None:
        self.options = options


_completing = fork_lock()  # otherwise, the child could not finish the work of another thread

NOT_EMPTY = "Not empty, or the decorator would write a docstring."


class _Noted:
    """What is known about a class until it becomes a dataclass."""

    def __init__(self, cls: type, options: dict[str, Any]) -> None:
        self.options = options
        self.names = frozenset(vars(cls))
        self.text: object = None


_pending: dict[type, _Noted] = {}  # the classes that are not dataclasses yet
_fields: dict[type, dict[str, dict[str, Any]]] = {}


def fields(cls: type) -> dict[str, dict[str, Any]]:
    """Return the arguments of `field()` for each field of a class."""
    if cls in _fields:
        return _fields[cls]
    import dataclasses  # a class from elsewhere, decorated at once

    found: dict[str, dict[str, Any]] = {}
    for own in dataclasses.fields(cls):
        default = {} if own.default is dataclasses.MISSING else {"default": own.default}
        found[own.name] = {"metadata": own.metadata, **default}
    return found


def new(cls: type[T], **values: Any) -> T:
    """Return a record with these values; fields with a plain default may be left out."""
    record = object.__new__(cls)
    vars(record).update(values)
    return record


def _complete(owner: type) -> None:
    with _completing:
        for cls in reversed(owner.__mro__):
            if cls in _pending:
                _decorate(cls, _pending[cls])
                del _pending[cls]


def _decorate(cls: type, noted: _Noted) -> None:
    """Make the class a dataclass, even if a signal handler's exception interrupted that before.

    The decorator refuses a class that already has some of the methods that it adds.
    """
    import dataclasses

    for name in [name for name in vars(cls) if name not in noted.names]:
        delattr(cls, name)
    for name, arguments in _fields[cls].items():
        setattr(cls, name, dataclasses.field(**arguments))
    if vars(cls)["__doc__"] is not NOT_EMPTY:
        noted.text = vars(cls)["__doc__"]
    cls.__doc__ = NOT_EMPTY
    try:
        dataclasses.dataclass(**noted.options)(cls)
    finally:
        cls.__doc__ = noted.text  # type: ignore[assignment]


if not TYPE_CHECKING:

    def field(**options):
        """Note the arguments of `dataclasses.field`."""
        return _Field(**options)

    def dataclass(**options):
        """Note the arguments of `dataclasses.dataclass` for a subclass of `Deferred`."""

        def note(cls):
            noted = {name: value for name, value in vars(cls).items() if isinstance(value, _Field)}
            _fields[cls] = {name: value.options for name, value in noted.items()}
            for name, value in noted.items():
                if "default" in value.options:
                    setattr(cls, name, value.options["default"])
                else:
                    delattr(cls, name)
            _pending[cls] = _Noted(cls, options)
            return cls

        return note


class Deferred:
    """Base of the classes that become dataclasses when that is first needed."""

    if not TYPE_CHECKING:
        __init__ = _StandIn()
        __repr__ = _StandIn()
        __eq__ = _StandIn()
        __hash__ = _StandIn()
        __setattr__ = _StandIn()
        __delattr__ = _StandIn()
        __replace__ = _StandIn()
        __match_args__ = _StandIn()
        __dataclass_fields__ = _StandIn()
        __dataclass_params__ = _StandIn()
        __signature__ = _StandIn()  # for inspect, which would take the stand-in for `__init__`
