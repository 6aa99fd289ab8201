"""Regular expressions as a format: a legal subset of ECMA-262, since nesting is not regular.

Groups nest DEPTH deep; ranges in classes are the usual ones; there are no named groups (their names must differ), no
properties and no back-references.
"""

from __future__ import annotations

from engine.schema.automata.automaton import Automaton
from engine.schema.regex.pattern import full_match

DEPTH = 2

_HEX = "[0-9a-fA-F]"
_UNIT = f"(?:[0-9abcefABCEF]{_HEX}{{3}}|[dD][0-7]{_HEX}{{2}})"
_ESCAPE = f"\\\\(?:[dDsSwWtnvfr^$\\\\.*+?()[\\]{{}}|/-]|x{_HEX}{{2}}|u{_UNIT}|c[a-zA-Z])"
_LITERAL = "[^\\^$\\\\.*+?()[\\]{}|]"
_MEMBER = f"(?:[^\\\\\\]\\[&~^-]|{_ESCAPE}|0-9|a-z|A-Z|a-f|A-F)"
_ATOM = f"{_LITERAL}|\\.|{_ESCAPE}|\\[\\^?{_MEMBER}*-?\\]"
_SPANS = "|".join(f"{low},(?:[{low}-9]|[1-9][0-9]{{1,2}})" for low in range(10)) + "|[1-9][0-9],[1-9][0-9]{2}"
_QUANTIFIER = f"(?:(?:[*+?]|\\{{(?:[0-9]{{1,3}},?|{_SPANS})\\}})\\??)?"


def regex() -> Automaton:
    """Alternatives of repeated characters, classes and groups, with assertions."""
    atom, quantifier, edge = full_match(_ATOM), full_match(_QUANTIFIER), full_match("\\^|\\$|\\\\[bB]")
    open_group, open_look = Automaton.of(["(", "(?:"]), Automaton.of(["(?=", "(?!", "(?<=", "(?<!"])
    close, bar = Automaton.literal(")"), Automaton.literal("|")
    inner = (edge | (atom + quantifier) | bar).star()
    for _ in range(DEPTH):
        group = (atom | (open_group + inner + close)) + quantifier
        inner = (edge | group | (open_look + inner + close) | bar).star()
    return inner
