"""From a data set to batches: scan, split, leak check, order, loader."""
