"""Keywords that the grammar lets through, judged while a document is still being written.

When a value closes, the text so far, ended legally, is judged by the caller's schema. A failure that points at a closed
value is final, whatever comes later; the value's first byte is where the text went wrong. Knows JSON text and the
judge; does not know tokens or matchers.
"""

from __future__ import annotations

import re

from engine.grammar.counting.cursor import spelled
from engine.judge import Judgement
from engine.pointer import json_pointer

_LEXEME = re.compile(rb'"(?:[^"\\]|\\.)*+(?P<closed>")?|[{}\[\]:,]|[^\s{}\[\]:,"]+', re.DOTALL)
CLOSERS = frozenset(b'"}],0123456789el')
"""Bytes that may end a value (numbers end with the byte after them)."""
VALUE_ENDS = frozenset(b'"}],')
"""One of these comes with the end of any value, or before anything else does."""


def failing_start(judgement: Judgement, written: bytes, ending: bytes) -> int | None:
    """Offset in `written` of the value that fails for good; None where none does. Linear in the text.

    `ending` completes `written` to the whole document that was judged.
    """
    spans = value_spans(written)
    pointer = judgement.pointer or ""
    start, end = spans.get(pointer, (0, None))
    return start if end is not None or not ending else None


def value_spans(text: bytes) -> dict[str, tuple[int, int | None]]:
    """By JSON pointer, where each value starts and ends (None while it is open). The text may be cut anywhere."""
    spans: dict[str, tuple[int, int | None]] = {}
    path: list[str | int] = []  # one entry per open container: the key or index of its current member
    starts: list[tuple[str, int]] = []
    expect_key = False
    for match in _LEXEME.finditer(text):
        lexeme, here = match[0], match.start()
        if lexeme.startswith(b'"') and not match["closed"]:  # brackets in it are text
            if not expect_key:
                spans[json_pointer(path)] = (here, None)
            break
        if lexeme in (b"}", b"]"):
            if starts:
                pointer, start = starts.pop()
                spans[pointer] = (start, match.end())
                path.pop()
            expect_key = False
        elif lexeme == b",":
            expect_key = bool(path) and isinstance(path[-1], str)
            if path and isinstance(path[-1], int):
                path[-1] += 1
        elif lexeme == b":":
            expect_key = False
        elif expect_key and lexeme.startswith(b'"'):
            path[-1] = spelled(lexeme[1:-1])
        else:
            pointer = json_pointer(path)
            spans[pointer] = (here, None)
            if lexeme in (b"{", b"["):
                starts.append((pointer, here))
                path.append("" if lexeme == b"{" else 0)
                expect_key = lexeme == b"{"
            elif lexeme.startswith(b'"') or match.end() < len(text):
                spans[pointer] = (here, match.end())
    return spans
