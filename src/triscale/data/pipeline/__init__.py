"""From a dataset to batches: scan, split, leak check, sample order and loader."""
