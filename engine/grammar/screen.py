"""Which constraints may cost more than a moment, judged by counting, before anything is compiled.

Knows sizes; does not compile. What is over a limit is refused here; what is merely large goes to a killable worker.
The thresholds keep the Python part of an in-process compile near 20 ms, so that decoding beside it is not held up.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from engine.config import Limits
from engine.errors import ConstraintError, LimitExceeded
from engine.pointer import escape
from engine.request import Constraint
from engine.schema.embed import Part, parts
from engine.schema.expansion import expand
from engine.schema.lark_source import inline_schemas, replace_schemas
from engine.schema.reference import Schemas

_CHEAP_BYTES = 16 << 10
_CHEAP_NODES = 1_200
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
_CHEAP_OPTIONS = 500
_CHEAP_UNROLLED = 2_000
_CHEAP_CONDITIONAL = 150
_CONDITIONAL = ("not", "if", "dependencies", "dependentSchemas", "unevaluatedProperties", "unevaluatedItems")
"""Keywords that lowering answers with products and complements."""
_REPEAT = re.compile(r"\{\s*(\d+)?\s*(?:,\s*(\d+)?\s*)?\}")
_CHEAP_REPEAT = 32
_WEIGHT_LIMIT = 4.0
"""Sum over the schema of (count / threshold); one part at its threshold weighs 1."""


@dataclass(frozen=True, slots=True)
class Screened:
    """`heavy`: compile it where it can be killed. `pointer` and `part` name what weighs most."""

    heavy: bool
    part: str = ""
    pointer: str = ""


def screen(constraint: Constraint, limits: Limits) -> Screened:
    """Linear in the text. Raises LimitExceeded for text, depth or size over a limit, with the place."""
    size = len(constraint.source.encode("utf-8", "surrogatepass"))
    if size > limits.schema_bytes:
        _over("schema_bytes", limits.schema_bytes, f"{size} bytes", constraint.kind, "")
    if constraint.is_json or constraint.kind == "structural_tag":
        return _screen_json(constraint, _read(constraint, limits), limits, size)
    if constraint.kind == "choice":
        return Screened(size > _CHEAP_BYTES or constraint.source.count(",") > _CHEAP_OPTIONS, "options")
    outside = _outside(constraint)
    weight = max(_pattern_weight(outside), len(outside) / _CHEAP_TEXT)
    inside = _screen_json(constraint, [part.schema for part in parts(constraint)], limits, size)
    return inside if weight <= 1.0 else Screened(True, f"the {constraint.kind}")


def _outside(constraint: Constraint) -> str:
    """The grammar without the schemas in it, which are weighed apart."""
    if constraint.kind != "lark":
        return constraint.source
    found = inline_schemas(constraint.source)
    return replace_schemas(constraint.source, found, [""] * len(found))


def _read(constraint: Constraint, limits: Limits) -> Any:
    try:
        return json.loads(constraint.source)
    except RecursionError:
        _over("schema_depth", limits.schema_depth, "very deep nesting", constraint.kind, "")


def _screen_json(constraint: Constraint, document: Any, limits: Limits, size: int) -> Screened:
    scale = 0.5 if constraint.conformance == "spec" else 1.0
    total, nodes = size / _CHEAP_BYTES, 0
    worst = (0.0, "", "")
    queue: list[tuple[Any, str, int]] = [(document, "", 0)]
    while queue:
        value, pointer, depth = queue.pop()
        nodes += 1 + sum(not isinstance(child, dict | list) for _, child in _children(value))
        if depth > limits.schema_depth:
            _over("schema_depth", limits.schema_depth, "deeper nesting", constraint.kind, pointer)
        if nodes > limits.schema_nodes:
            _over("schema_nodes", limits.schema_nodes, "more values", constraint.kind, pointer)
        for key, child in _children(value):
            weight = _weight(key, child) / scale
            total += weight if weight > 0.25 else 0.0
            worst = max(worst, (weight, f"{key} of {_measure(child)}", f"{pointer}/{_escape(key)}"))
            if isinstance(child, dict | list):
                queue.append((child, f"{pointer}/{_escape(key)}", depth + 1))
    conditional = any(f'"{word}"' in constraint.source for word in _CONDITIONAL)
    worst = max([worst, *(_unrolled(part, conditional, constraint, limits) for part in parts(constraint))])
    heavy = worst[0] > 1.0 or total > _WEIGHT_LIMIT or nodes > _CHEAP_NODES
    return Screened(heavy, worst[1], worst[2])


def _unrolled(part: Part, conditional: bool, constraint: Constraint, limits: Limits) -> tuple[float, str, str]:
    """What the references of a schema stand for: weight, what it is, and where. Raises LimitExceeded."""
    try:
        unrolled = expand(Schemas(part.schema, depth=limits.schema_depth, nodes=limits.schema_nodes))
    except ConstraintError as error:
        raise part.place(error, constraint) from None
    if unrolled.in_place > limits.schema_nodes:
        found = f"{unrolled.in_place} schemas apply to one value"  # the validator judges each of them apart
        _over("schema_nodes", limits.schema_nodes, found, constraint.kind, part.pointer)
    count = unrolled.subschemas
    if count > _CHEAP_UNROLLED:
        return 2.0, f"references that unroll to {count} subschemas or more", part.pointer
    if conditional and count > _CHEAP_CONDITIONAL:
        return 2.0, f"conditions over {count} subschemas", part.pointer
    return 0.0, "", ""


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
