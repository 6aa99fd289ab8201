"""The grammars, a file a language.

A new one: `grammars/X.py` with GRAMMAR, a raw string in the notation that `engine.syntax.notation` describes, and X's
line in `engine.syntax.languages.NAMES`. Where dialects differ, `grammar(dialect)` returns the text instead (None: the
default; ValueError names a dialect that is not known). All units of a language stand in one text.

To look at one: `Language(GRAMMAR)` raises ValueError for what is wrong in it; `start("X", "module").feed(text)` has
`alive` and `whole`. A grammar may be wider than its language, never narrower. Begin from the language's published
grammar, flatten the precedences of operators (one rule with repeats), leave out what is not syntax (names, types,
constants that do not fit), and try every prefix of much real code first: a dead one is a fault of the grammar.
"""
