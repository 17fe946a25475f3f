"""Training on several processes: the group, micro-batches, batch norm across them."""
