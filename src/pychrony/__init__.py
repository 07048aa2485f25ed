"""Read chronyd's monitoring reports through libchrony.

One-shot functions such as `get_tracking()` open a connection, ask and close it;
`ChronyConnection` serves many questions. libchrony itself is loaded at the first call.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._engine.library import library_path, supported_reports
    from ._version import __version__
    from .connection import (
        ChronyConnection,
        get_activity,
        get_all,
        get_auth_data,
        get_ntp_data,
        get_report,
        get_rtc_data,
        get_select_data,
        get_server_stats,
        get_smoothing,
        get_source_stats,
        get_sources,
        get_tracking,
    )
    from .exceptions import (
        ChronyConnectionError,
        ChronyDataError,
        ChronyError,
        ChronyLibraryError,
        ChronyPermissionError,
        ChronyTimeoutError,
    )
    from .models import (
        Activity,
        AllReports,
        AuthData,
        AuthMode,
        FieldContent,
        FieldType,
        KeyType,
        LeapStatus,
        NTPData,
        NTPFlag,
        NTPMode,
        ReportField,
        RTCData,
        SelectData,
        SelectOption,
        SelectState,
        ServerStats,
        Smoothing,
        Source,
        SourceMode,
        SourceState,
        SourceStats,
        Timestamping,
        TrackingStatus,
        Transport,
    )

__all__ = [
    "Activity",
    "AllReports",
    "AuthData",
    "AuthMode",
    "ChronyConnection",
    "ChronyConnectionError",
    "ChronyDataError",
    "ChronyError",
    "ChronyLibraryError",
    "ChronyPermissionError",
    "ChronyTimeoutError",
    "FieldContent",
    "FieldType",
    "KeyType",
    "LeapStatus",
    "NTPData",
    "NTPFlag",
    "NTPMode",
    "RTCData",
    "ReportField",
    "SelectData",
    "SelectOption",
    "SelectState",
    "ServerStats",
    "Smoothing",
    "Source",
    "SourceMode",
    "SourceState",
    "SourceStats",
    "Timestamping",
    "TrackingStatus",
    "Transport",
    "__version__",
    "get_activity",
    "get_all",
    "get_auth_data",
    "get_ntp_data",
    "get_report",
    "get_rtc_data",
    "get_select_data",
    "get_server_stats",
    "get_smoothing",
    "get_source_stats",
    "get_sources",
    "get_tracking",
    "library_path",
    "supported_reports",
]

if not TYPE_CHECKING:
    from importlib import import_module

    _MODULES = ("connection", "exceptions", "models", "_engine.library", "_version")

    # Names are imported when one is first used (PEP 562): pytest imports this package in every
    # project, for the plug-in, and must not wait there for what it may not need.

    def __getattr__(name):
        if name not in __all__ and name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        for module in map(import_module, (f"{__name__}.{module}" for module in _MODULES)):
            globals().update((n, getattr(module, n)) for n in __all__ if hasattr(module, n))
        return globals()[name]

    def __dir__():
        return sorted({*globals(), *__all__})
