"""From a recipe and images to weights: the loop, its schedule, its checkpoints, and the evaluation."""
