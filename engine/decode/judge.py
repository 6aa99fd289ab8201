"""The last word on a finished text: valid or not, independently of the grammar that steered it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.grammar import CompiledGrammar
from engine.judge import Judgement, judge_of
from engine.request import Constraint
from engine.schema.validator import JsonInvalid, parse_json


@dataclass(frozen=True, slots=True)
class Judged:
    """A judgement, and the parsed document of a JSON constraint where the text is JSON."""

    judgement: Judgement
    value: Any = None


def judge(constraint: Constraint | None, grammar: CompiledGrammar | None, data: bytes) -> Judged:
    """Judge a whole text by its kind's judge; a fresh matcher stands in for one that does not exist yet."""
    if constraint is None or grammar is None:
        return Judged(Judgement(valid=True))
    own = judge_of(constraint)
    if own is None:
        accepted = grammar.accepts(data)
        message = f"the {constraint.kind} grammar does not accept the text"
        return Judged(Judgement(True) if accepted else Judgement(False, message, ""))
    judgement = own(data)
    return Judged(judgement, _value(data) if constraint.is_json else None)


def _value(data: bytes) -> Any:
    try:
        return parse_json(data)
    except JsonInvalid:
        return None
