"""Schemas from trivial to hard, each with a document that replays through it. Knows data only.

`trivial` is flags and enums, `typical` a function signature with prose, `hard` lengths,
patterns, formats, many optional keys and a long enum. `lift` are LIFT's six schemas with the longest of our own
instances of each, row by row; `mix` are different schemas of MaskBench's development set, one a row.
"""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.decode.engine import Engine
from engine.errors import EngineError
from engine.request import Constraint

TRIVIAL: dict[str, Any] = {
    "type": "object",
    "properties": {f"flag{n}": {"type": "boolean"} for n in range(12)}
    | {f"level{n}": {"enum": ["low", "middle", "high"]} for n in range(6)},
    "additionalProperties": False,
}
TRIVIAL["required"] = list(TRIVIAL["properties"])

TYPICAL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "doc": {"type": "string"},
        "parameters": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "type": {"type": "string"}, "optional": {"type": "boolean"}},
                "required": ["name", "type"],
                "additionalProperties": False,
            },
        },
        "returns": {"type": ["string", "null"]},
    },
    "required": ["name", "doc", "parameters", "returns"],
    "additionalProperties": False,
}

HARD: dict[str, Any] = {
    "type": "object",
    "properties": {
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
    "required": ["id", "slug", "title", "when", "kind", "body"],
    "additionalProperties": False,
}

PROSE = (
    "Merge the intervals that overlap.\nSort them by their start, then sweep once: an interval that begins before the "
    'end of the last one ("touching" counts) extends it, any other one is appended. The input is left as it was.'
)
DOCUMENTS: dict[str, tuple[dict[str, Any], Any]] = {
    "trivial": (
        TRIVIAL,
        {name: n % 2 == 0 for n, name in enumerate(f"flag{n}" for n in range(12))}
        | {f"level{n}": ("low", "middle", "high")[n % 3] for n in range(6)},
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
            "id": "123e4567-e89b-42d3-a456-426614174000",
            "slug": "merge-intervals-v2",
            "title": 'Merging intervals, "touching" ones too',
            "when": "2026-02-28T23:59:59.5Z",
            "mail": "first.last@example.org",
            "score": 12.75,
            "kind": "kind-041-final",
            "body": PROSE,
            "extra_3": "three",
            "extra_17": 17,
            "extra_59": None,
        },
    ),
}


PROMPT = "Describe: "
MIX_SCHEMAS = 32
MIX_TOKENS = (100, 220)
LIFT = ("lift_ir", "typescript_generation", "rust_generation", "python_generation", "java_generation", "go_generation")
SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"
MIX_FILE = "maskbench_dev.jsonl.xz"
Case = tuple[dict[str, Any], str]
"""A schema, and the text of a document that it accepts."""


@dataclass(frozen=True, slots=True)
class SchemaSet:
    """A schema and its document's text in schema order; `more` are those of further rows."""

    name: str
    schema: dict[str, Any]
    text: str
    more: tuple[Case, ...] = ()

    def case(self, row: int) -> Case:
        """What a row of the batch replays; rows take turns."""
        cases = ((self.schema, self.text), *self.more)
        return cases[row % len(cases)]


def schema_set(name: str) -> SchemaSet:
    """One of DOCUMENTS, or `lift`."""
    if name == "lift":
        cases = [_longest(schema) for schema in LIFT]
        return SchemaSet(name, *cases[0], more=tuple(cases[1:]))
    schema, document = DOCUMENTS[name]
    return SchemaSet(name, schema, _compact(document))


def mixed_set(engine: Engine) -> SchemaSet:
    """The first MIX_SCHEMAS of the data set whose grammar takes a document of MIX_TOKENS."""
    found: list[Case] = []
    for schema, text in _candidates():
        tokens = engine.tokenizer.encode(text)
        if MIX_TOKENS[0] <= len(tokens) <= MIX_TOKENS[1] and _takes(engine, schema, tokens):
            found.append((schema, text))
        if len(found) == MIX_SCHEMAS:
            break
    return SchemaSet("mix", *found[0], more=tuple(found[1:]))


def _takes(engine: Engine, schema: dict[str, Any], tokens: Sequence[int]) -> bool:
    try:
        matcher = engine.grammars.submit(Constraint.json_schema(schema)).result().matcher()
        return all(matcher.accept(token) for token in (*tokens, engine.tokenizer.stop_token_ids[0]))
    except EngineError:
        return False


def _candidates() -> Iterator[Case]:
    """Every schema of the data set with its longest valid document, in the file's order. SystemExit: no such file."""
    path = Path(os.environ.get("MASKLOOP_DATA", "../shared/data")) / MIX_FILE
    if not path.exists():
        raise SystemExit(f"--sets mix needs {MIX_FILE}; set MASKLOOP_DATA to the folder that has it ({path} is absent)")
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            case = json.loads(line)
            texts = [_compact(test["data"]) for test in case["tests"] if test["valid"]]
            if texts and isinstance(case["schema"], dict):
                yield case["schema"], max(texts, key=len)


def _longest(name: str) -> Case:
    lines = (SCHEMAS / f"{name}.valid.jsonl").read_text(encoding="utf-8").splitlines()
    schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    return schema, max((_compact(json.loads(line)) for line in lines if line.strip()), key=len)


def _compact(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
