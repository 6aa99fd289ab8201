"""Numbers as rules: sequences of expressions where they are known, else a rule per state. Knows lookaheads."""

from __future__ import annotations

from engine.schema.automata.automaton import Automaton
from engine.schema.automata.residuals import short_digest
from engine.schema.numbers.number_expressions import WHOLE_BLOCK, Parts, alternatives_of, blocks
from engine.schema.regex.pattern import full_match
from engine.schema.rules.grammar import Chars, Ref, chars
from engine.schema.strings.string_rules import TextRules

_DIGIT = chars("0123456789")


def write_number(texts: TextRules, automaton: Automaton, follow: Chars | None) -> Ref:
    """Rules for a set of spellings. `follow` and errors as in `TextRules.scalar`."""
    known = alternatives_of(automaton)
    return texts.scalar(automaton, follow) if known is None else write_known(texts, known, follow)


def write_known(texts: TextRules, known: tuple[Parts, ...], follow: Chars | None) -> Ref:
    """The same for sequences of expressions."""
    ahead = _lookahead(follow)
    refs = {part: _part(texts, part, ahead) for parts in known for part in parts}
    name = f"sn{short_digest(repr((known, follow)))}"
    return texts.add(name, tuple(tuple(refs[part] for part in parts) for parts in known), follow)


def _part(texts: TextRules, part: str, ahead: Chars | None) -> Ref:
    """One expression, a long run of digits as blocks. A whole block has nothing but digits behind it."""
    sequences = blocks(part)
    follows = {piece: _DIGIT if piece == WHOLE_BLOCK else ahead for pieces in sequences for piece in pieces}
    refs = {piece: texts.expression(piece, full_match(piece), follow) for piece, follow in follows.items()}
    if len(sequences) == 1:
        return refs[part]
    name = f"si{short_digest(repr((sequences, ahead)))}"
    return texts.add(name, tuple(tuple(refs[piece] for piece in pieces) for pieces in sequences), ahead)


def _lookahead(follow: Chars | None) -> Chars | None:
    """What can come behind a part of any number: the same for all, so that integers and numbers share their parts."""
    return follow and chars(*follow.ranges, ".eE0123456789")
