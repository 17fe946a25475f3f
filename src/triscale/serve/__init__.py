"""A trained network behind HTTP: classify images, and preview the network that a budget would give."""
