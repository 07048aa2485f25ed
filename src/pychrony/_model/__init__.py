"""Defines what a report is: vocabulary of the tables, decoder, descriptions, and plain values."""
