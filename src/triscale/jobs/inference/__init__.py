"""Jobs with a trained run: evaluate, predict, explain, extract features."""
