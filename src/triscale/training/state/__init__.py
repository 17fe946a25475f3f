"""The state of a training run, its checkpoints and its average."""
