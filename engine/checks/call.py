"""One call of a check: what it is given, and what its answer is taken for. Runs wherever the check runs.

Imports little: it is what the checks' own processes begin with.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from engine.pointer import steps

LONGEST_MESSAGE = 10_000
"""Characters."""


def call(function: Callable[[Any, Any], Any], pointer: str, document: bytes) -> dict[str, Any]:
    """`{"message": None | str}`, or `{"failed": what it did instead}`. Never raises."""
    try:
        parsed = json.loads(document)
        answer = function(value_at(parsed, pointer), parsed)
        return _read(answer)
    except BaseException as error:  # noqa: BLE001 - whatever it raises ends its own request
        return {"failed": f"raised {_described(error)}"}


def value_at(document: Any, pointer: str) -> Any:
    """The value that a pointer names."""
    for step in steps(pointer):
        document = document[int(step) if isinstance(document, list) else step]
    return document


def _read(answer: Any) -> dict[str, Any]:
    if answer is None:
        return {"message": None}
    if not isinstance(answer, str):
        return {"failed": f"answered {type(answer).__name__}; a check answers None or a message"}
    if not answer:
        return {"failed": "answered an empty message; None says that the value is right"}
    if len(answer) > LONGEST_MESSAGE:
        return {"failed": f"answered {len(answer)} characters; a message has {LONGEST_MESSAGE} at most"}
    return {"message": str.encode(answer, "utf-8", "replace").decode()}


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:LONGEST_MESSAGE].encode("utf-8", "replace").decode()
    except BaseException:  # noqa: BLE001 - an error that cannot even be told
        return type(error).__name__
