"""Serve a trained network over HTTP: classify images, and scale the network to a budget."""
