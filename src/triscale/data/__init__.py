"""Images on disk -> batches of tensors: find, scan, decode, split, transform, order, load."""
