"""A study: its trials, their storage, and the workers that carry them out."""
