"""What a process does that runs checks: a session is one check, a job one call of it.

A check's module is imported where the processes are forked from, so that importing it takes no call's time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

from engine.checks.call import call

_IMPORTED: dict[str, Callable[..., Any] | str] = {}
"""By `module:function`; a text says why there is none."""


def prepare(name: str, content: bytes) -> None:  # noqa: ARG001 - one name
    """Import the module of a check."""
    _IMPORTED[name] = _load(name)


def open_session(name: str, setup: bytes) -> Callable[[bytes], bytes]:  # noqa: ARG001 - one name
    """A job is a pointer, a line's end and the document; an empty one asks whether the check is there."""
    found = _IMPORTED[name]

    def answer(payload: bytes) -> bytes:
        if isinstance(found, str):
            return json.dumps({"missing": found}).encode()
        if not payload:
            return json.dumps({}).encode()
        pointer, _, document = payload.partition(b"\n")
        return json.dumps(call(found, json.loads(pointer), document)).encode()

    return answer


def _load(name: str) -> Callable[..., Any] | str:
    module, _, path = name.partition(":")
    try:
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except BaseException as error:  # noqa: BLE001 - whatever importing it raises
        return f"{type(error).__name__}: {error}"[:1_000]
    return found if callable(found) else f"it is no function but {type(found).__name__}"
