"""ECMA-262 patterns as automata, with lookaround, and as automata that count."""
