"""Numbers as rules: sequences of expressions where they are known, else a rule per state. Knows lookaheads."""

from __future__ import annotations

from engine.schema.automaton import Automaton
from engine.schema.grammar import Chars, Ref, chars
from engine.schema.number_expressions import Parts, alternatives_of
from engine.schema.pattern import full_match
from engine.schema.suffixes import short_digest
from engine.schema.text import TextRules


def write_number(texts: TextRules, automaton: Automaton, follow: Chars | None) -> Ref:
    """Rules for a set of spellings. `follow` and errors as in `TextRules.scalar`."""
    known = alternatives_of(automaton)
    if known is None:
        return texts.scalar(automaton, follow)
    ahead = _follow_sets(known, follow)
    refs = {part: texts.expression(part, full_match(part), ahead[part]) for part in ahead}
    name = f"{texts.prefix}n{short_digest(repr((known, follow)))}"
    return texts.add(name, tuple(tuple(refs[part] for part in parts) for parts in known), follow)


def _follow_sets(alternatives: tuple[Parts, ...], follow: Chars | None) -> dict[str, Chars | None]:
    """By part, every character that can come behind it; None where the document can end."""
    found: dict[str, Chars | None] = {}
    for parts in alternatives:
        for part, following in zip(parts, (*parts[1:], None), strict=True):
            ahead = follow if following is None else _first(following)
            known = found.get(part, ahead)
            found[part] = None if known is None or ahead is None else chars(*known.ranges, *ahead.ranges)
    return found


def _first(part: str) -> Chars:
    """The characters with which words of this expression begin."""
    return chars(*(span for spans, _ in full_match(part).moves(0) for span in spans))
