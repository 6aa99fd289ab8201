"""Grammars as XGrammar must be given them, whoever wrote them: EBNF read back, triggers, regular expressions."""
