"""Other endings, for documents whose shortest one fails a keyword that the grammar cannot hold.

Knows masks and matchers; takes the judge of texts from the caller. Tries a few detours of a few random legal tokens,
each followed by its own shortest ending; deterministic for a given text.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from engine.grammar.bitmask import draw, words

if TYPE_CHECKING:
    from engine.grammar.matcher import Matcher

_TRIES = 24
_LONGEST_DETOUR = 4
_MOST_WORK = 1_500
"""Microseconds that all tries may take, as counted below: a clock would end the same text differently on a busy day."""
_A_TRY = 80
_A_DRAW = 30
_AN_ENDING_TOKEN = 4
_BYTES_JUDGED = 50
"""A microsecond's worth of judging."""


def other_ending(matcher: Matcher, limit: int, passes: Callable[[tuple[int, ...]], bool]) -> tuple[int, ...] | None:
    """Tokens that end the document, pass, and number at most `limit`; None when the tries found none. 1-3 ms."""
    chance = random.Random(matcher.tokens)
    row = np.zeros((1, words(matcher.grammar.vocabulary.size)), dtype=np.int32)
    a_try = _A_TRY + len(matcher.text(matcher.token_ids)) // _BYTES_JUDGED
    spent = 0
    for attempt in range(_TRIES):
        if spent > _MOST_WORK:
            break
        fork = matcher.fork()
        for drawn in range(1 + attempt % _LONGEST_DETOUR):
            if fork.terminated or (drawn and fork.inside_character) or not fork.fill(row, 0, count=False):
                break
            fork.accept(draw(row[0], chance))
        detour = fork.token_ids[matcher.tokens :]
        rest = fork.shortest_ending()
        whole = (*detour, *rest)
        spent += a_try + _A_DRAW * len(detour) + _AN_ENDING_TOKEN * len(whole)
        if (rest or fork.terminated) and len(whole) <= limit and passes(whole):
            return whole
    return None
