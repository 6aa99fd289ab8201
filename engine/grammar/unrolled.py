"""How large a schema is once every local reference is written out per use. Knows JSON and `$ref`; compiles nothing.

A few lines of references that double can stand for 2^40 parts; counting them takes one pass.
"""

from __future__ import annotations

from typing import Any

_IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"})
"""Keywords whose schemas judge the same value."""
_MOST = 10**9
_DEEPEST = 150


class Unrolled:
    """`parts` of the whole schema; `in_place`, the most schemas that apply to any one value. Circles count once."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._known: dict[str, tuple[int, int]] = {}
        self._most = 0
        self.parts, here = self._size(document, 0)
        self.in_place = max(self._most, here)

    def _size(self, value: Any, depth: int) -> tuple[int, int]:
        if depth > _DEEPEST or not isinstance(value, dict | list):
            return (_MOST if depth > _DEEPEST else 0), 0
        parts, here = 1, 1 if isinstance(value, dict) else 0
        for key, child in value.items() if isinstance(value, dict) else ((None, item) for item in value):
            child_parts, child_here = self._size(child, depth + 1)
            parts += child_parts
            if key is None or key in _IN_PLACE:
                here += child_here
            self._most = max(self._most, child_here)
        if isinstance(value, dict) and isinstance(reference := value.get("$ref"), str) and reference.startswith("#"):
            target_parts, target_here = self._target(reference, depth)
            parts, here = parts + target_parts, here + target_here
        return min(parts, _MOST), min(here, _MOST)

    def _target(self, reference: str, depth: int) -> tuple[int, int]:
        if reference not in self._known:
            self._known[reference] = (0, 0)
            self._known[reference] = self._size(_at(self._document, reference), depth + 1)
        return self._known[reference]


def _at(document: Any, reference: str) -> Any:
    for part in reference[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        document = document.get(key) if isinstance(document, dict) else None
    return document
