"""Implements `pychrony.testing`, and the plug-in that pytest loads in every project."""
