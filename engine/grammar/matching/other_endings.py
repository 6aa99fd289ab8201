"""Other endings, for documents whose shortest one fails a keyword that the grammar cannot hold, or is banned.

Knows masks and matchers; takes the judge of texts from the caller. First the shortest ending that begins with no banned
token, then a few detours of a few random legal tokens, each followed by its own shortest ending; deterministic for a
given text.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from engine.grammar.masks.bitmask import Rows, cleared, draw
from engine.grammar.matching.mask_work import Unfinished
from engine.grammar.matching.token_matcher import TokenMatcher
from engine.judge import Undecided

Ending = tuple[int, ...]
Passes = Callable[[Ending], bool]

_TRIES = 24
_LONGEST_DETOUR = 4
_LONGEST = 1_000
"""Tokens of an ending beside which no other is looked for, which would take as long again each time."""
_MOST_WORK = 1_500
"""Microseconds that all tries may take, as counted below: a clock would end the same text differently on a busy day."""
_A_TRY = 80
_A_DRAW = 30
_AN_ENDING_TOKEN = 4
_BYTES_JUDGED = 50
"""A microsecond's worth of judging."""
_PIECES = 3
"""Milliseconds, about, of one mask, or one ending."""
_FEW = 16
"""Beginnings that are tried beside a banned one; where there are more, those of a single byte."""


def best_ending(matcher: TokenMatcher, shortest: Ending, limit: int, passes: Passes) -> Ending:
    """An ending of at most `limit` tokens that passes; one that does not when a few tries found none. 1-3 ms.

    `shortest` ignores what is banned here. It comes back when it is the only one that passes or fits: then the judge of
    the whole text has the last word.
    """
    if len(shortest) > _LONGEST:
        return shortest
    allowed = _beside_bans(matcher, limit) if matcher.bans(shortest[0]) else shortest
    if allowed and passes(allowed):
        return allowed
    detour = _detour(matcher, limit, passes)
    if detour is not None:
        return detour
    return shortest if not allowed or passes(shortest) else allowed


def _beside_bans(matcher: TokenMatcher, limit: int) -> Ending:
    """A short ending that begins with another token than the banned ones; empty where none of those tried fits."""
    begins = matcher.grammar.vocabulary.legal(_mask(matcher))
    if len(begins) > _FEW:
        begins = [(token, text) for token, text in begins if len(text) <= 1]
    best: Ending = ()
    least = len(matcher.shortest_ending())
    for token, _ in begins[:_FEW]:
        if best and len(best) <= least + 1:
            break  # hardly any could be shorter
        fork = matcher.fork()
        if fork.accept(token, legal=True):
            rest = fork.quick_ending(pieces=_PIECES) or ()
            if (rest or fork.terminated) and len(rest) < (len(best) - 1 if best else limit):
                best = (token, *rest)
    return best


def _detour(matcher: TokenMatcher, limit: int, passes: Passes) -> Ending | None:
    chance = random.Random(matcher.tokens)
    a_try = _A_TRY + len(matcher.text(matcher.token_ids)) // _BYTES_JUDGED
    spent = 0
    unknown: list[bytes] = []
    calls: list[object] = []
    for attempt in range(_TRIES):
        if spent > _MOST_WORK:
            break
        fork = matcher.fork()
        for drawn in range(1 + attempt % _LONGEST_DETOUR):
            _take_forced(fork)
            row = None if fork.terminated or (drawn and fork.inside_character) else _quick_mask(fork)
            if row is None or not row.any():
                break
            fork.accept(draw(row, chance), legal=True)
        detour = fork.token_ids[matcher.tokens :]
        rest = fork.quick_ending(pieces=_PIECES) or ()
        whole = (*detour, *rest)
        spent += a_try + _A_DRAW * len(detour) + _AN_ENDING_TOKEN * len(whole)
        if (rest or fork.terminated) and len(whole) <= limit:
            try:
                if passes(whole) and not unknown and not calls:
                    return whole
            except Undecided as question:
                unknown += question.texts
                calls += question.calls
    if unknown or calls:
        raise Undecided(tuple(unknown), tuple(calls))  # all that may follow is asked at once
    return None


def _take_forced(fork: TokenMatcher) -> None:
    """Go on to where the grammar leaves a choice: a detour of four tokens would often end within a key."""
    for token in fork.grammar.vocabulary.segmenter.cut(fork.forced()) or ():
        if not fork.accept(token, legal=True):
            break


def _quick_mask(fork: TokenMatcher) -> Rows | None:
    """None where it takes too long, or has taken whoever made it: the same text has the same ending."""
    try:
        row = _mask(fork, pieces=_PIECES)
    except Unfinished:
        return None
    return row if fork.pieces <= _PIECES else None


def _mask(matcher: TokenMatcher, *, pieces: int | None = None) -> Rows:
    """What is legal and not banned, one row [W]."""
    rows = cleared(1, matcher.grammar.vocabulary.size)
    matcher.fill(rows, 0, count=False, pieces=pieces)
    bits: Rows = rows[0]
    return bits
