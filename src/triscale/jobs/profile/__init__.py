"""Measure networks on a device, and make its profile."""
