"""Grammars as plain data: rules, guards, layout, shortest texts, canonical names."""
