"""Marks behind undeclared keys, which XGrammar's matcher reads and no text holds (`schema.rules.grammar.KEY_MARK`).

Where the document is followed by our own tables they say where the marks stand. Elsewhere what XGrammar takes tells: a
key that is declared needs none, and one is tried where nothing else goes on. Knows bytes and XGrammar's matcher.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import xgrammar as xgr

from engine.grammar.masks import bitmask
from engine.schema.rules.grammar import KEY_MARK

MARK = KEY_MARK.encode()
_PAST_KEY = re.compile(rb'"(?:\s*:|\s+\Z)')
_WHOLE_KEY = re.compile(rb'".*"(?:\s*:|\s+\Z)', re.DOTALL)
_LATER = re.compile(rb'[{,].*".*"(?:\s*:|\s+\Z)', re.DOTALL)


class KeyTokens:
    """What the tokens of a vocabulary do to keys that are marked."""

    def __init__(self, texts: Sequence[bytes | None]) -> None:
        past = [(token, text) for token, text in enumerate(texts) if text and _PAST_KEY.search(text)]
        self.past = dict(past)
        """Those that go on behind the end of a key, perhaps."""
        self.whole = [token for token, text in past if _WHOLE_KEY.search(text)]
        """Those of them that hold a whole key."""
        self.later = [token for token, text in past if _LATER.search(text)]
        """Those that come to it from elsewhere than where a key is expected."""
        self.writable = ~bitmask.from_ids([t for t, text in enumerate(texts) if text and MARK in text], len(texts))
        """All tokens but those that hold a mark, which JSON cannot."""


def with_marks(text: bytes, offsets: tuple[int, ...]) -> bytes:
    """The text with a mark at each of these ascending offsets."""
    bounds = (0, *offsets, len(text))
    return MARK.join(text[start:end] for start, end in pairwise(bounds))


def ways(text: bytes) -> Iterator[bytes]:
    """What a token may mean where nothing tells the marks: as it is, or with one."""
    yield text
    for offset in [0, *(at + 1 for at, byte in enumerate(text[:-1]) if byte == 0x22)]:
        yield with_marks(text, (offset,))


def fill(matcher: xgr.GrammarMatcher, rows: bitmask.Rows, row: int) -> None:
    """The mask."""
    if not matcher.fill_next_token_bitmask(rows, row):
        rows[row] = -1


def fill_anyhow(matcher: xgr.GrammarMatcher, rows: bitmask.Rows, row: int) -> None:
    """The mask where nothing tells the marks: what may come, and what may come behind a mark."""
    fill(matcher, rows, row)
    behind = matcher.fork()
    if behind.accept_string(MARK):
        other = np.zeros_like(rows[:1])
        fill(behind, other, 0)
        rows[row] |= other[0]
