"""Shared by all jobs: runs, networks and output paths."""
