"""Who goes first in the interpreter, which one thread has at a time: a step that the device will wait for, before what
other threads load for later ones."""

from __future__ import annotations

import threading

_MOST_S = 0.002
"""Whoever gives way goes on after that, so that it gets somewhere beside a thread that never rests."""
_free = threading.Event()
_free.set()
_first = [0]
"""The thread that goes first."""


def go_first() -> None:
    """Until `rest`, others give way to this thread."""
    _first[0] = threading.get_ident()
    _free.clear()


def rest() -> None:
    """This thread waits, or does what nobody waits for."""
    _free.set()


def give_way() -> None:
    """Called by whoever loads, about every tenth of a millisecond. 0.1 microseconds where nobody goes first."""
    if not _free.is_set() and threading.get_ident() != _first[0]:
        _free.wait(_MOST_S)
