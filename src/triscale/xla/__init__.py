"""Operation tree to JAX functions."""
