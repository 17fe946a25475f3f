"""Deployment jobs: export a run to other engines, quantize it, choose the best file."""
