"""Training jobs: prepare a run, initialize weights, estimate the cost, train."""
