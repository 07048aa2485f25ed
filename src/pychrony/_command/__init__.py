"""Holds what only the `pychrony` command needs."""
