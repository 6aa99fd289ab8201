"""An ending for any matcher state, by trying bytes. Knows the matcher only as something that takes bytes or not.

Used where there is no rule form to analyse. The ending is legal but not provably the shortest. Cost: 0.02-75 ms, at
most a second of processor time. XGrammar's own forced string is not used: on a rule that never ends it does not return.
"""

from __future__ import annotations

import time
from collections import deque

import xgrammar as xgr

from engine.grammar.pieces import Pieces

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
    spent: list[float] = []
    written = b""
    while not fork.is_completed():
        step = yield from _shortest_step(fork, spent)
        if not step or len(written) > _LIMIT_BYTES or not fork.accept_string(step):
            return None
        written += step
    return written


def _shortest_step(fork: xgr.GrammarMatcher, spent: list[float]) -> Pieces[bytes | None]:
    """Breadth first over bytes, one path per distinct parser state, until a closing byte or the end is reached."""
    in_text = all(_takes(fork, byte) for byte in (b"a", b"Z", b"{"))
    goals = _QUOTE if in_text else _CLOSERS
    seen: set[str] = set()
    queue: deque[tuple[xgr.GrammarMatcher, bytes]] = deque([(fork.fork(), b"")])
    while queue and len(seen) < _LIMIT_STATES and sum(spent) < _LIMIT_S:
        yield
        started = time.thread_time()
        state, path = queue.popleft()
        for byte in goals + _ORDER:
            if not state.accept_string(byte):
                continue
            if state.is_completed() or byte in goals:
                return path + byte
            mark = state._debug_print_internal_state()
            if mark not in seen:
                seen.add(mark)
                queue.append((state.fork(), path + byte))
            state.rollback(1)
        spent[:] = [sum(spent) + time.thread_time() - started]
    return None


def _takes(fork: xgr.GrammarMatcher, byte: bytes) -> bool:
    taken = bool(fork.accept_string(byte))
    if taken:
        fork.rollback(1)
    return taken
