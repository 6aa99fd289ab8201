"""From a constraint to a compiled grammar, in a process that can be stopped, and as bytes."""
