"""From a model to a file that runs elsewhere, and proof that it computes the same."""
