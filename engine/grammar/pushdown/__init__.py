"""Our own automaton beside XGrammar's: where a document stands in its grammar, byte by byte."""
