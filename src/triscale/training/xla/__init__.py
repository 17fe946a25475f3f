"""Training steps on XLA devices: the counterparts of step, losses and optimizers in JAX."""
