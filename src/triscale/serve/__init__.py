"""A trained network behind HTTP: drop an image, see what it is; move a budget, see the network that it would give."""
