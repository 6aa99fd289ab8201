"""An ending for any matcher state, by trying bytes. Knows the matcher only as something that takes bytes or not.

Used where there is no rule form to analyse. The ending is legal but not provably the shortest. Cost: 0.02-75 ms, at
most a second of processor time. XGrammar's own forced string is not used: on a rule that never ends it does not return.
"""

from __future__ import annotations

import time
from collections import deque

import xgrammar as xgr

from engine.grammar.pieces import PIECE_S, Pieces

_OUTSIDE = [bytes([b]) for b in b'}],:01ntf"' + b"23456789[-{.e+" + bytes(range(0x61, 0x7B)) + bytes(range(0x20, 0x7F))]
_ORDER = list(dict.fromkeys(_OUTSIDE + [b"\n", b"\t", b"\r"] + [bytes([b]) for b in range(0x80, 0x100)]))
_QUOTE = [b'"']
_CLOSERS = [b"}", b"]", b",", b":", b'"']
_LIMIT_BYTES = 8192
_LIMIT_STATES = 4096
_LIMIT_S = 1.0
"""Of this thread's processor time: how busy a machine is must not decide which endings exist."""


def ending_bytes(matcher: xgr.GrammarMatcher) -> Pieces[bytes | None]:
    """Bytes after which `matcher` (a fork is used) stands at the end of a document; None when none was found."""
    fork = matcher.fork()
    left_s, written = _LIMIT_S, b""
    while not fork.is_completed():
        step, left_s = yield from _shortest_step(fork, left_s)
        if not step or len(written) > _LIMIT_BYTES or not fork.accept_string(step):
            return None
        written += step
    return written


def _shortest_step(fork: xgr.GrammarMatcher, left_s: float) -> Pieces[tuple[bytes | None, float]]:
    """Breadth first over bytes, one path per distinct parser state, until a closing byte or the end is reached; and
    what is left of the time. `fork` stays where it is: many readings take longer to copy than to read again."""
    in_text = all(_takes(fork, byte) for byte in (b"a", b"Z", b"{"))
    goals = _QUOTE if in_text else _CLOSERS
    seen, queue = set[str](), deque([b""])
    while queue and len(seen) < _LIMIT_STATES and left_s > 0:
        path = queue.popleft()
        yield
        started = time.thread_time()
        for byte in goals + _ORDER:
            if (took := time.thread_time() - started) > PIECE_S:
                left_s -= took
                yield
                started = time.thread_time()
            mark = _mark_behind(fork, path + byte)
            if mark is None or mark in seen:
                continue
            if not mark or byte in goals:
                return path + byte, left_s
            seen.add(mark)
            queue.append(path + byte)
        left_s -= time.thread_time() - started
    return None, left_s


def _mark_behind(fork: xgr.GrammarMatcher, text: bytes) -> str | None:
    """What tells the state behind this text from others; empty at the end of a document, None where it is not taken."""
    if not fork.accept_string(text):
        return None
    mark = "" if fork.is_completed() else fork._debug_print_internal_state()
    fork.rollback(1)
    return mark


def _takes(fork: xgr.GrammarMatcher, byte: bytes) -> bool:
    return _mark_behind(fork, byte) is not None
