"""Load checkpoints of other projects; each source is a module with a table of name rules."""
