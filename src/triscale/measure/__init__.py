"""Measurements of a model on a machine, with protocol and spread."""
