"""Grammars as callers write them, read from the source into productions: EBNF, Lark, structural tags."""
