"""The report of a coefficient search."""
