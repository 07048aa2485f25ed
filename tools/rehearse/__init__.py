"""Rehearses a release on this machine: release.yml runs with `act`, and stand-ins for GitHub."""
