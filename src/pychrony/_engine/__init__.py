"""All that asks chronyd: the C code, and the Python that drives it and reads its records."""
