"""How fast tokens come: the bench, the loops it times, and every kernel alone."""
