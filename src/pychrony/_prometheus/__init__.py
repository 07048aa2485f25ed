"""Describes what `pychrony.prometheus` exports, without prometheus_client."""
