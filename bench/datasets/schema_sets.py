"""Schemas from trivial to hard, each with a document that replays through it. Knows data only.

`trivial` is flags and enums, `typical` a function signature with prose, `hard` lengths, patterns, formats, many
optional keys and a long enum. `lift` are LIFT's six schemas with the longest of our own instances of each, row by row;
those of `mixed_pairs` are MaskBench's, for a batch in which every row has another one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.datasets.cases import compact, load_cases
from bench.datasets.lift_documents import NAMES, SCHEMAS, own_documents

SINGLE = ("trivial", "typical", "hard")
FLAGS, LEVELS = [f"flag{n}" for n in range(12)], [f"level{n}" for n in range(6)]
HEIGHTS = ("low", "middle", "high")


def closed(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """An object with these members and no others."""
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


TEXT: dict[str, Any] = {"type": "string"}
TRIVIAL = closed(
    {name: {"type": "boolean"} for name in FLAGS} | {name: {"enum": list(HEIGHTS)} for name in LEVELS}, FLAGS + LEVELS
)
PARAMETER = closed({"name": TEXT, "type": TEXT, "optional": {"type": "boolean"}}, ["name", "type"])
TYPICAL = closed(
    {
        "name": TEXT, "doc": TEXT, "parameters": {"type": "array", "items": PARAMETER},
        "returns": {"type": ["string", "null"]},
    },
    ["name", "doc", "parameters", "returns"],
)  # fmt: skip
HARD = closed(
    {
        "id": {"type": "string", "format": "uuid"},
        "slug": {"type": "string", "pattern": "^[a-z][a-z0-9]*(-[a-z0-9]+)*$", "minLength": 3, "maxLength": 40},
        "title": {"type": "string", "minLength": 5, "maxLength": 120},
        "when": {"type": "string", "format": "date-time"},
        "mail": {"type": "string", "format": "email"},
        "score": {"type": "number", "minimum": -2.5, "maximum": 1000},
        "kind": {"enum": [f"kind-{n:03d}-{word}" for n in range(60) for word in ("draft", "final", "void")]},
        "body": {"type": "string", "minLength": 20, "maxLength": 2000},
        **{f"extra_{n}": {"type": ["string", "integer", "null"]} for n in range(60)},
    },
    ["id", "slug", "title", "when", "kind", "body"],
)
PROSE = (
    "Merge the intervals that overlap.\nSort them by their start, then sweep once: an interval that begins before the "
    'end of the last one ("touching" counts) extends it, any other one is appended. The input is left as it was.'
)
DOCUMENTS: dict[str, tuple[dict[str, Any], Any]] = {
    "trivial": (
        TRIVIAL,
        {name: n % 2 == 0 for n, name in enumerate(FLAGS)} | {name: HEIGHTS[n % 3] for n, name in enumerate(LEVELS)},
    ),
    "typical": (
        TYPICAL,
        {
            "name": "merge_intervals",
            "doc": PROSE,
            "parameters": [
                {"name": "intervals", "type": "list[tuple[int, int]]"},
                {"name": "closed", "type": "bool", "optional": True},
            ],
            "returns": "list[tuple[int, int]]",
        },
    ),
    "hard": (
        HARD,
        {
            "id": "123e4567-e89b-42d3-a456-426614174000", "slug": "merge-intervals-v2",
            "title": 'Merging intervals, "touching" ones too', "when": "2026-02-28T23:59:59.5Z",
            "mail": "first.last@example.org", "score": 12.75, "kind": "kind-041-final", "body": PROSE,
            "extra_3": "three", "extra_17": 17, "extra_59": None,
        },
    ),
}  # fmt: skip
PROMPT = "Describe: "
MIX_FILE = "maskbench_dev.jsonl.xz"
Pair = tuple[Any, str]
"""A schema, and the text of a document that it accepts."""


@dataclass(frozen=True, slots=True)
class SchemaSet:
    """Schemas, each with its document's text in schema order; the rows of a batch take turns at them."""

    name: str
    pairs: tuple[Pair, ...]

    def pair(self, row: int) -> Pair:
        """What a row of the batch replays."""
        return self.pairs[row % len(self.pairs)]


def schema_set(name: str) -> SchemaSet:
    """One of SINGLE, or `lift`."""
    if name == "lift":
        texts = {name: max(own_documents(name), key=len) for name in NAMES}
        return SchemaSet("lift", tuple((_shipped(name), text) for name, text in texts.items()))
    schema, document = DOCUMENTS[name]
    return SchemaSet(name, ((schema, compact(document)),))


def _shipped(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))


def mixed_pairs() -> Iterator[Pair]:
    """Every schema of MaskBench's development set with its longest valid document. SystemExit: no such file."""
    path = Path(os.environ.get("MASKLOOP_DATA", "../shared/data")) / MIX_FILE
    if not path.exists():
        raise SystemExit(f"--sets mix needs {MIX_FILE}; set MASKLOOP_DATA to the folder that has it ({path} is absent)")
    for case in load_cases(path):
        texts = [test.text for test in case.tests if test.valid]
        if texts and isinstance(case.schema, dict):
            yield case.schema, max(texts, key=len)
