"""Marks behind undeclared keys, which XGrammar's matcher reads and no text holds (`schema.grammar.KEY_MARK`).

Where the document is followed by our own tables they say where the marks stand. Elsewhere what XGrammar takes tells: a
key that is declared needs none, and one is tried where nothing else goes on. Knows bytes and XGrammar's matcher.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import xgrammar as xgr

from engine.grammar import bitmask
from engine.schema.grammar import KEY_MARK

MARK = KEY_MARK.encode()
_PAST_KEY = re.compile(rb'"(?:\s*:|\s+\Z)')
Tails = dict[bytes, list[tuple[bytes, int]]]
"""Tokens by the text up to behind a key, each with the rest of its text."""


class KeyTokens:
    """What the tokens of a vocabulary do to keys that are marked."""

    def __init__(self, texts: Sequence[bytes | None]) -> None:
        self.past = _past_keys(texts, 1)
        """Those that go on behind the end of a key, perhaps, where a key is open; they hold its last quote."""
        self.past_outside = _past_keys(texts, 2)
        """The same where no string is open: they hold a whole key."""
        self.past_value = _past_keys(texts, 3)
        """The same where another string is open."""
        self.writable = ~bitmask.from_ids([t for t, text in enumerate(texts) if text and MARK in text], len(texts))
        """All tokens but those that hold a mark, which JSON cannot."""


def _past_keys(texts: Iterable[bytes | None], closing: int) -> Tails:
    """By the quotes: the one numbered `closing` may end a key, and each second one behind it."""
    found: Tails = {}
    for token, text in enumerate(texts):
        key = _PAST_KEY.search(text) if text else None
        if text and key and (b"\\" in text or any(n >= closing and not (n - closing) % 2 for n in _quotes(text))):
            found.setdefault(text[: key.end()], []).append((text[key.end() :], token))
    return found


def _quotes(text: bytes) -> Iterator[int]:
    """The numbers of the quotes that may end a key."""
    return (text.count(b'"', 0, found.start() + 1) for found in _PAST_KEY.finditer(text))


def with_marks(text: bytes, offsets: tuple[int, ...]) -> bytes:
    """The text with a mark at each of these ascending offsets."""
    for offset in reversed(offsets):
        text = text[:offset] + MARK + text[offset:]
    return text


def accept(matcher: xgr.GrammarMatcher, token_id: int, text: bytes | None) -> bool:
    """Take a token where nothing tells the marks: without any, or with one. False leaves the matcher as it was."""
    if matcher.accept_token(token_id):
        return True
    offsets = [] if text is None else [0, *(at + 1 for at, byte in enumerate(text[:-1]) if byte == 0x22)]
    return any(matcher.accept_string(with_marks(text or b"", (offset,))) for offset in offsets)


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
