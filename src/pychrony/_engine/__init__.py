"""Holds everything that asks chronyd: the C code, and the Python that drives and decodes it."""
