"""One interpreter for decoding and for all that goes on beside it: short turns, and no walk over the whole process.

Knows Python's thread switch and garbage collector; nothing of engines.
"""

from __future__ import annotations

import gc
import sys
from functools import cache

_TURN_S = 0.0005


@cache
def settle() -> None:
    """Once a process, when everything long-lived is loaded. Below a millisecond.

    A thread that compiles a schema gives way after 0.5 ms instead of 5: the decode thread gives the interpreter up
    several times a step, and waited for it each time. What is loaded by now is left out of full collections, which hold
    every thread: 0.3 s for the objects of torch and a model otherwise, whenever grammars have added a quarter to them.
    """
    sys.setswitchinterval(min(sys.getswitchinterval(), _TURN_S))
    gc.freeze()
