"""Decides whom to ask and drives the conversation: the C code, and the Python around it."""
