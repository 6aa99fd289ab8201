"""One interpreter for decoding and for all that goes on beside it: short turns, and no walk over the whole process."""

from __future__ import annotations

import gc
import sys
import time
from functools import cache

_TURN_S = 0.0001
_DUE = 5
"""Collections of the middle generation, 7,000 new objects each, behind which a full one is worth its milliseconds."""
_UNTIDIED = 500
"""Such collections after which Python makes a full one by itself, whatever is in flight."""
_MEANWHILE = 12
"""Such collections, while something is in flight, behind which what is alive is left out of the next full one: that one
takes 30 ms at most."""
_THOROUGH_S, _AT_LAST_S = 300.0, 3600.0
"""Between two looks at everything: where there are pauses that last, and where there are none."""
_SPARING = 1_000
"""Times as long as such a look took the next one waits longer: where many grammars are held it takes seconds."""
_thorough_at = [time.monotonic()]
"""From when on the time to the next one counts."""


@cache
def settle() -> None:
    """Once a process, when everything long-lived is loaded. Below a millisecond.

    A thread that loads a grammar or reads a body gives way after 0.1 ms instead of 5: the decode thread gives the
    interpreter up several times a step, and waits each time for all that stand before it. To give way so often costs
    such a thread 2 % where two of them compute. What is loaded by now is left out of full collections, which hold
    every thread: 0.3 s for the objects of torch and a model otherwise, whenever grammars have added a quarter to them.
    """
    sys.setswitchinterval(min(sys.getswitchinterval(), _TURN_S))
    gc.set_threshold(*gc.get_threshold()[:2], max(gc.get_threshold()[2], _UNTIDIED))
    gc.freeze()


def tidy(*, busy: bool, rested: bool = False) -> None:
    """The full collection, for when nothing is in flight: some milliseconds when one is due, else a microsecond.

    What it keeps (grammars, tables) later ones leave out: with 300 grammars each took 150 ms, in whatever thread had
    just made an object. Where too much is new (a long conversation was read, and refused) it is left out at once. While
    something is in flight (`busy`) nothing is collected, and what is alive is left out all the same: grammars that are
    loaded make millions of objects, and a collection amid them held everybody for 0.5 s.
    Every five minutes everything is looked at, in a pause that has lasted (`rested`), or every hour where none does, in
    a short one: that takes 0.15 s and more, and a pause between two requests is over in a moment. The longer it took,
    the later comes the next.
    """
    due = gc.get_count()[2]
    if not rested and due < (_MEANWHILE if busy else _DUE):
        return
    now = time.monotonic()
    if thorough := not busy and now - _thorough_at[0] > (_THOROUGH_S if rested else _AT_LAST_S):
        gc.unfreeze()
    if thorough or not (busy or due > _MEANWHILE):
        gc.collect()
    gc.freeze()
    if thorough:
        _thorough_at[0] = now + _SPARING * (time.monotonic() - now)
