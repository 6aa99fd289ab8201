"""What a model is: a list of blocks with their numbers, read from a config. Knows no weight."""
