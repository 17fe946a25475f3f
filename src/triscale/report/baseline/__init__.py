"""The report of a baseline search."""
