"""Implements the `pychrony` command."""
