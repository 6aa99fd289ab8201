"""The last word on a finished text: valid or not, independently of the grammar that steered it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.grammar import CompiledGrammar
from engine.request import Constraint
from engine.schema.validator import validator_for


@dataclass(frozen=True, slots=True)
class Judgement:
    """`value` is the parsed document of JSON constraints; on failure `message` and a `pointer` into the document."""

    valid: bool
    value: Any = None
    message: str | None = None
    pointer: str | None = None
    keyword: str | None = None


def judge(constraint: Constraint | None, grammar: CompiledGrammar | None, data: bytes) -> Judgement:
    """Judge a whole text. JSON: strict parse and the caller's original schema. Other grammars: a fresh matcher."""
    if constraint is None or grammar is None:
        return Judgement(valid=True)
    if constraint.is_json:
        checked = validator_for(constraint.source).check(data)
        return Judgement(checked.ok, checked.value, checked.message, checked.pointer, checked.keyword)
    if not grammar.accepts(data):
        return Judgement(False, None, f"the {constraint.kind} grammar does not accept the text", "")
    return Judgement(valid=True)
