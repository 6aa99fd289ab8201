"""Whether a text can still be followed. XGrammar keeps, for every byte, each reading of the text that is possible,
so that a text with many readings costs more the longer it gets. Knows XGrammar's matcher alone.

It tells no count. So its processor time is measured: to take a token, and to copy the matcher, which is tried each
time when all tokens together have taken half as much again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import xgrammar as xgr

_TAKING_S, _COPYING_S = 0.01, 0.001
"""Too much of everybody's time for one token, and for one copy, which takes up to eight times as long in new memory."""
_COPYING_BYTE_S = 2e-7
"""What a copy may take longer for each byte of a long text: twice what it takes where there is one reading."""
_LOOK_AT_S, _AGAIN = 0.01, 1.5


class Readings:
    """Of one text. `too_many` stays once it is so: the text should be closed now."""

    def __init__(self) -> None:
        self.too_many = False
        self._spent, self._look_at, self._bytes, self._slow = 0.0, _LOOK_AT_S, 0, 0

    def take(self, matcher: xgr.GrammarMatcher, token: Callable[[], bool], size: int) -> bool:
        """Let the matcher take a token of so many bytes, and see what that costs."""
        taken, took = _timed(token)
        self._spent += took
        self._bytes += size
        self._slow = self._slow + 1 if took > _TAKING_S else 0
        self.too_many |= self._slow > 1  # a single one may have been spent on making room
        if self._spent > self._look_at:
            self._look_at = self._spent * _AGAIN
            allowed = _COPYING_S + _COPYING_BYTE_S * self._bytes
            self.too_many |= all(_timed(matcher.fork)[1] > allowed for _ in range(2))
        return bool(taken)


def _timed(call: Callable[[], object]) -> tuple[object, float]:
    started = time.thread_time()
    result = call()
    return result, time.thread_time() - started
