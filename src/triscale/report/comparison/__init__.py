"""The report of a comparison of scaling methods."""
