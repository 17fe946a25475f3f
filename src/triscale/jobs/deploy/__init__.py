"""From a run to files that run elsewhere: export, quantize, deploy."""
