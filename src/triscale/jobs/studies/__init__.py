"""Searches and comparisons that train many networks."""
