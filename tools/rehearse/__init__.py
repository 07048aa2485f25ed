"""Plays a release and its promotion on this machine: the workflows themselves, run by `act`.

stand_ins/README.md tells what is real about it, and what is not.
"""
