"""Drawing with matplotlib, and number formats."""
