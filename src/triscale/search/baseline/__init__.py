"""The search for a baseline network."""
