"""Layers with a state instead of keys and values: what they do to it, and how rows go back. Knows no weight file."""
