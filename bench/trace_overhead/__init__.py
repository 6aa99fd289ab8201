"""What a trace costs a step, and whether what it writes is right."""
