"""Whether a text can still be followed. XGrammar keeps, for every byte, each reading of the text that is possible,
so that a text with many readings costs more the longer it gets. Knows XGrammar's matcher alone.

It tells no count. So its processor time is measured: to take a token, a long one in pieces, since each byte may take
milliseconds and no call to the matcher can be stopped; and to copy the matcher, which is tried each time when all
tokens together have taken half as much again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import copy
from typing import Self

import xgrammar as xgr

_TAKING_S, _COPYING_S = 0.01, 0.001
"""Too much of everybody's time for one token, and for one copy, which takes up to eight times as long in new memory."""
_COPYING_BYTE_S = 2e-7
"""What a copy may take longer for each byte of a long text: twice what it takes where there is one reading."""
_LOOK_AT_S, _AGAIN = 0.01, 1.5
_LONG, _PIECE = 8, 4
"""Bytes of a token that is read in pieces, and of a piece."""
_AT_MOST_S = 0.025
"""A token that takes longer is not read to its end: the text is closed before it."""


class Readings:
    """Of one text. `too_many` stays once it is so: the text should be closed now."""

    def __init__(self) -> None:
        self.too_many = False
        self._spent, self._look_at, self._bytes, self._slow = 0.0, _LOOK_AT_S, 0, 0
        self._steps: list[int] = []  # of each token, as the matcher counts them: pieces
        self._pieces, self._until = 1, 0.0

    def fork(self) -> Self:
        """An independent copy."""
        other = copy(self)
        other._steps = list(self._steps)
        return other

    def take(self, matcher: xgr.GrammarMatcher, token: Callable[[], bool], size: int) -> bool:
        """Let the matcher take a token of so many bytes, and see what that costs. `token` gives its bytes to `read`.

        False, and nothing has changed, also where it takes too long: then there are too many.
        """
        self._pieces, self._until = 1, time.thread_time() + _AT_MOST_S
        taken, took = _timed(token)
        self._spent += took
        self._slow = self._slow + 1 if took > _TAKING_S else 0
        self.too_many |= self._slow > 1  # a single one may have been spent on making room
        if not taken:
            return False
        self._steps.append(self._pieces)
        self._bytes += size
        if self._spent > self._look_at:
            self._look_at = self._spent * _AGAIN
            allowed = _COPYING_S + _COPYING_BYTE_S * self._bytes
            self.too_many |= all(_timed(matcher.fork)[1] > allowed for _ in range(2))
        return True

    def read(self, matcher: xgr.GrammarMatcher, text: bytes) -> bool:
        """Let the matcher read this; False leaves it as it was. What ends a text of too many is read to its end."""
        starts = range(0, len(text), _PIECE if len(text) > _LONG else _LONG)
        for pieces, start in enumerate(starts):
            late = pieces > 0 and not self.too_many and time.thread_time() > self._until
            if late or not matcher.accept_string(text[start : start + starts.step]):
                self.too_many |= late
                matcher.rollback(pieces)
                return False
        self._pieces = len(starts)
        return True

    def back(self, count: int) -> int:
        """Forget the last `count` tokens (one at least); the steps that the matcher has to go back for them."""
        steps = sum(self._steps[-count:])
        del self._steps[-count:]
        return steps


def _timed(call: Callable[[], object]) -> tuple[object, float]:
    started = time.thread_time()
    result = call()
    return result, time.thread_time() - started
