"""Measure latency and memory of a model, and profile devices."""
