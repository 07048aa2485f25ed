"""Rehearses a release and its promotion on this machine, by running the workflows with `act`.

stand_ins/README.md says which parts are real.
"""
