"""Holds what `pychrony.testing` is made of, and the plug-in that pytest loads in every project."""
