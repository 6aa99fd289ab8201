"""LIFT's schemas, documents of its IR (our own and recorded ones), and prompts of its length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.datasets.cases import compact, json_lines
from engine.interfaces import Tokenizer

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
IR = SCHEMAS / "lift_ir.json"
NAMES = ("lift_ir", "typescript_generation", "rust_generation", "python_generation", "java_generation", "go_generation")
PROMPT_TOKENS = 1079
"""The length of LIFT's longest instruction."""


def all_schemas() -> list[str]:
    """The texts of the schemas that ship, by name."""
    return [path.read_text(encoding="utf-8") for path in sorted(SCHEMAS.glob("*.json"))]


def ir_schema() -> Any:
    return json.loads(IR.read_text(encoding="utf-8"))


def own_documents(name: str = "lift_ir") -> list[str]:
    """Our own valid instances of one of NAMES, compact."""
    return [compact(value) for value in json_lines(SCHEMAS / f"{name}.valid.jsonl")]


def recorded_documents(path: Path, *, valid: bool) -> list[str]:
    """The IRs recorded in a file of prompts, keys as recorded; with `valid` those that their schema accepts."""
    rows = [row for row in json_lines(path) if not valid or row.get("ir_valid_against_schema") is True]
    documents = (row.get("expected_or_recorded_ir") for row in rows)
    return [compact(document) for document in documents if isinstance(document, dict)]


def prompt_of_length(tokenizer: Tokenizer, tokens: int, index: int, *, alike: bool = False) -> str:
    """A prompt of that many tokens that shares no prefix with another index; `alike`, all but its last tokens, as
    LIFT's do."""
    rest = "State what the function does and name its parameters. " * tokens
    number = f"Request {index:06} says:"
    if not alike:
        return tokenizer.decode(tokenizer.encode(f"{number} {rest}")[:tokens])
    end = tokenizer.encode(number)
    return tokenizer.decode(tokenizer.encode(rest)[: tokens - len(end)] + end)
