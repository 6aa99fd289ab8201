"""Regular expressions as a format: a legal subset of ECMA-262, since nesting is not regular.

Groups nest to a fixed depth; there are no named groups (their names must differ) and no back-references.
"""

from __future__ import annotations

from engine.schema.automaton import Automaton
from engine.schema.pattern import full_match

DEPTH = 4

_ESCAPE = "\\\\(?:[dDsSwWtnvfr^$\\\\.*+?()[\\]{}|/-]|x[0-9a-fA-F]{2}|u(?:[0-9abcefABCEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2})|c[a-zA-Z])"
_LITERAL = "[^\\^$\\\\.*+?()[\\]{}|]"
_RANGES = "0-9|a-z|A-Z|a-f|A-F|a-zA-Z"


def regex() -> Automaton:
    """Alternatives of repeated characters, classes and groups, with assertions."""
    member = f"(?:[^\\\\\\]\\[&~^-]|{_ESCAPE}|{_RANGES})"
    bracket = f"\\[\\^?{member}*\\]"
    atom = full_match(f"{_LITERAL}|\\.|{_ESCAPE}|{bracket}")
    quantifier = full_match("(?:(?:[*+?]|\\{(?:[0-9]{1,3},?|[0-9],[1-9][0-9]{1,2})\\})\\??)?")
    edge = full_match("\\^|\\$|\\\\[bB]")
    open_group, open_look = Automaton.of(["(", "(?:"]), Automaton.of(["(?=", "(?!", "(?<=", "(?<!"])
    close = Automaton.literal(")")
    inner = Automaton.nothing()
    for _ in range(DEPTH):
        term = edge | ((atom | (open_group + inner + close)) + quantifier)
        term |= open_look + inner + close
        inner = (term | Automaton.literal("|")).star()
    return inner
