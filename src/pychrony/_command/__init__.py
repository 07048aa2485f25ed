"""All that only the `pychrony` command needs."""
