"""The search for alpha, beta and gamma."""
