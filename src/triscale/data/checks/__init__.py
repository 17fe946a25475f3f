"""Check a dataset for damaged files, empty classes and duplicates."""
