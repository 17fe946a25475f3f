"""Verify a run: its files, data, training, evaluation and exported files."""
