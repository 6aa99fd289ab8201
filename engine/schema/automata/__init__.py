"""Regular languages over code points: tables, products, determinisation, canonical automata."""
