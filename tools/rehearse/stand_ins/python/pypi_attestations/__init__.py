"""Stands in for pypi-attestations, whose signatures need Sigstore's servers."""
