"""The method's arithmetic: laws, rounding and scaling of networks, budgets. No torch."""
