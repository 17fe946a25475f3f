"""Checkpoints of other projects: one file a source, each a table of name rules."""
