"""Networks as data: what they are, the tree of operations they stand for, and what they cost. No torch."""
