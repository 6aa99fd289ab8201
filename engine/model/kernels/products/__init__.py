"""Products of activations with packed weights, and the ends of the network."""
