"""Names the method that reads each report."""

from __future__ import annotations

METHODS = {
    "tracking": "get_tracking",
    "sources": "get_sources",
    "sourcestats": "get_source_stats",
    "selectdata": "get_select_data",
    "activity": "get_activity",
    "authdata": "get_auth_data",
    "ntpdata": "get_ntp_data",
    "serverstats": "get_server_stats",
    "rtcdata": "get_rtc_data",
    "smoothing": "get_smoothing",
}
REPORTS = (*METHODS, "all")
LISTS = ("sources", "sourcestats", "selectdata", "authdata", "ntpdata")
UNIX_ONLY = ("selectdata", "authdata", "ntpdata", "serverstats")
