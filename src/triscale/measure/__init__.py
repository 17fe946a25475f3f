"""Figures about a model on a machine, with the protocol and the spread that they were taken with."""
