"""Checks that a process imports: good ones, and every way of giving no answer."""

from __future__ import annotations

import ctypes
import os
import re
import time
from pathlib import Path
from typing import Any


def short(value: Any, document: Any) -> str | None:
    return None if len(value) <= 3 else f"{value!r} is longer than 3"


def odd(value: Any, document: Any) -> str | None:
    return None if value % 2 else f"{value!r} is even"


def never(value: Any, document: Any) -> str | None:
    """Wrong, always; notes each call in the file that the document names."""
    if isinstance(document.get("log"), str):
        with Path(document["log"]).open("a") as log:
            log.write(f"{document}\n")
    return f"{value!r} is wrong"


def as_many_as_before(value: Any, document: Any) -> str | None:
    """What the document holds by then: items up to this one, and nothing of what follows."""
    return None if document == {"items": [*range(value), value]} else f"saw {document}"


def told(value: Any, document: Any) -> None:
    """Says who it is in the file that the value names, and stays until somebody ends it."""
    Path(value).write_text(str(os.getpid()))
    time.sleep(600)


def gated(value: Any, document: Any) -> None:
    """Waits until the file that the value names is there."""
    while not Path(value).exists():
        time.sleep(0.005)


def raises(value: Any, document: Any) -> None:
    raise ValueError("no idea\ud800")


def exits(value: Any, document: Any) -> None:
    raise SystemExit(3)


def sleeps(value: Any, document: Any) -> None:
    time.sleep(600)


def spins(value: Any, document: Any) -> None:
    while True:
        pass


def holds_the_lock(value: Any, document: Any) -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")


def leaves(value: Any, document: Any) -> None:
    os._exit(0)


def crashes(value: Any, document: Any) -> None:
    ctypes.string_at(0)


def hungry(value: Any, document: Any) -> None:
    bytearray(1 << 40)


def number(value: Any, document: Any) -> int:
    return 3


def yes(value: Any, document: Any) -> bool:
    return True


def silent(value: Any, document: Any) -> str:
    return ""


def huge(value: Any, document: Any) -> str:
    return "x" * 1_000_000


async def late(value: Any, document: Any) -> None:
    return None


class Named:
    """A method of a class is found by its name too."""

    @staticmethod
    def short(value: Any, document: Any) -> str | None:
        return short(value, document)


NOTHING = 3
