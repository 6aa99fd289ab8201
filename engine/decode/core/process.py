"""One interpreter for decoding and for all that goes on beside it: short turns, and no walk over the whole process."""

from __future__ import annotations

import gc
import sys
import time
from functools import cache

_TURN_S = 0.0005
_DUE = 5
"""Collections of the middle generation, 7,000 new objects each, behind which a full one is worth its milliseconds."""
_UNTIDIED = 500
"""Such collections after which Python makes a full one by itself, whatever is in flight."""
_MEANWHILE = 12
"""Such collections, while something is in flight, behind which what is alive is left out of the next full one: that one
takes 30 ms at most."""
_THOROUGH_S, _AT_LAST_S = 300.0, 3600.0
"""Between two looks at everything: where there are pauses, and where something is always in flight."""
_thorough_at = [time.monotonic()]


@cache
def settle() -> None:
    """Once a process, when everything long-lived is loaded. Below a millisecond.

    A thread that compiles a schema gives way after 0.5 ms instead of 5: the decode thread gives the interpreter up
    several times a step, and waited for it each time. What is loaded by now is left out of full collections, which hold
    every thread: 0.3 s for the objects of torch and a model otherwise, whenever grammars have added a quarter to them.
    """
    sys.setswitchinterval(min(sys.getswitchinterval(), _TURN_S))
    gc.set_threshold(*gc.get_threshold()[:2], max(gc.get_threshold()[2], _UNTIDIED))
    gc.freeze()


def tidy(*, busy: bool) -> None:
    """The full collection, for when nothing is in flight: some milliseconds when one is due, else a microsecond.

    What it keeps (grammars, tables) later ones leave out: with 300 grammars each took 150 ms, in whatever thread had
    just made an object. Where too much is new (a long conversation was read, and refused) it is left out at once. While
    something is in flight (`busy`) nothing is collected, and what is alive is left out all the same: grammars that are
    loaded make millions of objects, and a collection amid them held everybody for 0.5 s.
    Every five minutes everything is looked at, or every hour where there is never a pause.
    """
    due = gc.get_count()[2]
    if due < (_MEANWHILE if busy else _DUE):
        return
    now = time.monotonic()
    if thorough := now - _thorough_at[0] > (_AT_LAST_S if busy else _THOROUGH_S):
        _thorough_at[0] = now
        gc.unfreeze()
    if thorough or not (busy or due > _MEANWHILE):
        gc.collect()
    gc.freeze()
