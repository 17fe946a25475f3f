"""From the operation tree to torch modules."""
