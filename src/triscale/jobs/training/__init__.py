"""From a request to trained weights: prepare, initialize, estimate, train."""
