"""Comparison of scaling methods at equal cost."""
