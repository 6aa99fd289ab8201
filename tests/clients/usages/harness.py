"""What the usage scripts share; each runs in its client's own environment, so this knows the standard library alone.

A usage is a function that calls the server as the client's documentation shows and asserts what came back. Each prints
one JSON line: {"usage", "ok", "why"}.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

BASE_URL = os.environ.get("CLIENTS_BASE_URL", "http://127.0.0.1:8000/v1")
MODEL = os.environ.get("CLIENTS_MODEL", "smollm2-135m")
KEY = "none"
_USAGES: list[tuple[str, Callable[[], Any]]] = []


def usage(name: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register a usage under the name that the table shows."""

    def register(function: Callable[[], Any]) -> Callable[[], Any]:
        _USAGES.append((name, function))
        return function

    return register


def main() -> None:
    """Run every registered usage (or those whose name holds the first argument)."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    for name, function in _USAGES:
        if wanted in name:
            print(json.dumps({"usage": name, **_outcome(function)}), flush=True)


def _outcome(function: Callable[[], Any]) -> dict[str, Any]:
    try:
        made = function()
        if inspect.isawaitable(made):
            asyncio.run(made)  # type: ignore[arg-type]  # a coroutine
    except BaseException as error:  # noqa: BLE001 - whatever a client raises is the outcome
        if os.environ.get("CLIENTS_TRACE"):
            traceback.print_exc()
        return {"ok": False, "why": f"{type(error).__name__}: {error}"[:600]}
    return {"ok": True, "why": ""}
