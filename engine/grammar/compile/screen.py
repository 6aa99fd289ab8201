"""Which constraints are too large to be looked at, judged by counting, before anything is compiled.

Knows sizes; does not compile. How long the rest may take nobody knows beforehand: it runs where it can be stopped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from engine.config import Limits
from engine.errors import ConstraintError, LimitExceeded
from engine.pointer import escape
from engine.request import Constraint
from engine.schema.embed import parts
from engine.schema.reading.ref_expansion import expand
from engine.schema.reading.reference import Schemas

_CHEAP_COUNTS = {
    "minLength": 32, "maxLength": 64, "minItems": 16, "maxItems": 32, "minProperties": 4, "maxProperties": 8,
    "minContains": 4, "maxContains": 4,
}  # fmt: skip
_CHEAP_SIZES = {
    "properties": 40, "patternProperties": 8, "enum": 64, "anyOf": 12, "oneOf": 8, "allOf": 8, "required": 40,
    "dependentSchemas": 4, "dependentRequired": 8, "dependencies": 8, "prefixItems": 16,
}  # fmt: skip
_CHEAP_PATTERN = 100
_CHEAP_TEXT = 4_096
_REPEAT = re.compile(r"\{\s*(\d+)?\s*(?:,\s*(\d+)?\s*)?\}")
_CHEAP_REPEAT = 32
"""What is cheap of each: a keyword's weight is how many times as much it says."""


def screen(constraint: Constraint, limits: Limits) -> None:
    """Raises LimitExceeded for text, depth or size over a limit, with the place. Linear: about 1 ms in 10 kB."""
    size = len(constraint.source.encode("utf-8", "surrogatepass"))
    if size > limits.schema_bytes:
        _over("schema_bytes", limits.schema_bytes, f"{size} bytes", constraint.kind, "")
    if constraint.is_json or constraint.kind == "structural_tag":
        _count(constraint, _read(constraint, limits), limits)


def screen_parts(constraint: Constraint, limits: Limits) -> None:
    """The same for the JSON Schemas inside, each reference written out. Raises ConstraintError. For a worker: this
    resolves references, which a stranger may have spelled as he likes."""
    for part in parts(constraint):
        if not constraint.is_json:
            _count(constraint, part.schema, limits)
        try:
            expansion = expand(Schemas(part.schema, depth=limits.schema_depth, nodes=limits.schema_nodes))
        except ConstraintError as error:
            raise part.place(error, constraint) from None
        if expansion.in_place > limits.schema_nodes:
            found = f"{expansion.in_place} schemas apply to one value"  # the validator judges each of them apart
            _over("schema_nodes", limits.schema_nodes, found, constraint.kind, part.pointer)


def heaviest(constraint: Constraint) -> tuple[str, str]:
    """What probably made a constraint too heavy, and its pointer: for the message of a refusal."""
    if not constraint.is_json and constraint.kind != "structural_tag":
        return f"the {constraint.kind}", ""
    found = max(_weights(json.loads(constraint.source)), default=(0.0, "", ""))
    return found[1], found[2]


def _read(constraint: Constraint, limits: Limits) -> Any:
    try:
        return json.loads(constraint.source)
    except RecursionError:
        _over("schema_depth", limits.schema_depth, "very deep nesting", constraint.kind, "")


def _count(constraint: Constraint, document: Any, limits: Limits) -> None:
    nodes = 0
    for value, pointer, depth in _containers(document):
        nodes += 1 + sum(not isinstance(child, dict | list) for _, child in _children(value))
        if depth > limits.schema_depth:
            _over("schema_depth", limits.schema_depth, "deeper nesting", constraint.kind, pointer)
        if nodes > limits.schema_nodes:
            _over("schema_nodes", limits.schema_nodes, "more values", constraint.kind, pointer)


def _containers(document: Any) -> Iterator[tuple[Any, str, int]]:
    """Objects and arrays with their pointers and depths, and the document itself."""
    queue: list[tuple[Any, str, int]] = [(document, "", 0)]
    while queue:
        value, pointer, depth = queue.pop()
        yield value, pointer, depth
        for key, child in _children(value):
            if isinstance(child, dict | list):
                queue.append((child, f"{pointer}/{_escape(key)}", depth + 1))


def _weights(document: Any) -> Iterator[tuple[float, str, str]]:
    for value, pointer, _ in _containers(document):
        for key, child in _children(value):
            yield _weight(key, child), f"{key} of {_measure(child)}", f"{pointer}/{_escape(key)}"


def _over(limit: str, allowed: int, found: str, param: str, pointer: str) -> None:
    place = f" at {pointer[:200]}" if pointer else ""
    raise LimitExceeded(f"limit {limit} = {allowed} exceeded: {found}{place}", param=param, pointer=pointer[:200])


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return [(str(index), item) for index, item in enumerate(value)] if isinstance(value, list) else []


def _weight(key: str, value: Any) -> float:
    """How many thresholds this one keyword is worth."""
    if isinstance(value, bool):
        return 0.0
    if isinstance(value, int | float):
        return float(value) / _CHEAP_COUNTS[key] if key in _CHEAP_COUNTS else 0.0
    if isinstance(value, dict | list):
        return len(value) / _CHEAP_SIZES[key] if key in _CHEAP_SIZES else 0.0
    if isinstance(value, str):
        return _pattern_weight(value) if key == "pattern" or len(value) > _CHEAP_TEXT else len(value) / _CHEAP_TEXT
    return 0.0


def _pattern_weight(pattern: str) -> float:
    """Repeats multiply when they nest; counting them as if they did is a safe guess. Lookarounds cost products."""
    product = 1.0
    for match in _REPEAT.finditer(pattern):
        product *= max(int(part) for part in (match[1] or "1", match[2] or "1"))
    return max(len(pattern) / _CHEAP_PATTERN, product / _CHEAP_REPEAT) + 0.3 * pattern.count("(?")


def _measure(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{len(value)} parts"
    return f"{len(value)} characters" if isinstance(value, str) else f"{value}"[:40]


def _escape(key: str) -> str:
    return escape(key)[:100]
