"""Documents replayed through the engine: the model computes as ever, and what it samples is the recorded document."""
