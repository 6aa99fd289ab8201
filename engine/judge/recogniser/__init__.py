"""Whether a text belongs to a context-free grammar: productions, terminals, Earley's recogniser, counted work."""
