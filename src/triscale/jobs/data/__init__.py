"""Jobs on data sets: scanning and checking."""
