"""Compound scaling: laws, rounding, budgets, and fitting a network to a budget. No torch."""
