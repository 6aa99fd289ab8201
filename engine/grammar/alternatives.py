"""Other endings, for documents whose shortest one fails a keyword that the grammar cannot hold.

Knows masks and matchers; takes the judge of texts from the caller. Tries a few detours of a few random legal tokens,
each followed by its own shortest ending; deterministic for a given text.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from engine.grammar.bitmask import to_bools, words

if TYPE_CHECKING:
    from engine.grammar.matcher import Matcher

_TRIES = 24
_LONGEST_DETOUR = 4
_MOST_TOKENS = 800
"""Tokens of all endings tried; one costs 3-6 microseconds to find, accept and judge."""
_MASK_TOKENS = 2_000
"""Entries of a mask that are as dear to draw from as one token of an ending."""


def other_ending(matcher: Matcher, limit: int, passes: Callable[[tuple[int, ...]], bool]) -> tuple[int, ...] | None:
    """Tokens that end the document, pass, and number at most `limit`; None when the tries found none. 1-5 ms."""
    draw = random.Random(matcher.tokens)
    row = np.zeros((1, words(matcher.grammar.vocabulary.size)), dtype=np.int32)
    spent = 0
    for attempt in range(_TRIES):
        if spent > _MOST_TOKENS:
            break
        fork = matcher.fork()
        for _ in range(1 + attempt % _LONGEST_DETOUR):
            if fork.terminated or not fork.fill(row, 0):
                break
            legal = np.flatnonzero(to_bools(row[0], matcher.grammar.vocabulary.size))
            fork.accept(int(legal[draw.randrange(len(legal))]))
        detour = fork.token_ids[matcher.tokens :]
        rest = fork.shortest_ending()
        whole = (*detour, *rest)
        spent += len(whole) + len(detour) * matcher.grammar.vocabulary.size // _MASK_TOKENS
        if (rest or fork.terminated) and len(whole) <= limit and passes(whole):
            return whole
    return None
