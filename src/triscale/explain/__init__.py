"""Explain predictions: which pixels of an image support a class."""
