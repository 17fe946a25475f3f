"""Turn images on disk into batches of tensors: find, scan, decode, split, transform, order and load."""
