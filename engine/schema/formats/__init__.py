"""The `format` vocabulary as automata."""
