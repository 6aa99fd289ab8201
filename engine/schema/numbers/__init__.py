"""Sets of numbers, and their spellings as automata."""
