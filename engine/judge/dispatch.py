"""Which judge a constraint has. Pure: what a judgement may cost is `service`'s business."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module

from engine.judge.judgement import Judge, Judgement
from engine.request import Constraint

JUDGES = {
    "json_schema": "json_schema",
    "json_object": "json_schema",
    "regex": "words",
    "choice": "words",
    "ebnf": "grammars",
    "lark": "grammars",
    "structural_tag": "grammars",
}
"""By kind, the module of this folder whose `make(constraint) -> Judge` reads the source; imported when first needed."""


def judge_of(constraint: Constraint) -> Judge | None:
    """The judge of this constraint; None for a kind that has none yet. The last 64 are kept.

    Raises ConstraintError where the source is none of its kind.
    """
    return _made(constraint) if constraint.kind in JUDGES else None


def judge(constraint: Constraint, data: bytes) -> Judgement:
    """Judge a whole text. KeyError for a kind that has no judge yet; raises what `judge_of` raises."""
    module = JUDGES[constraint.kind]
    made = judge_of(constraint)
    if made is None:
        raise KeyError(module)
    return made(data)


@lru_cache(maxsize=64)
def _made(constraint: Constraint) -> Judge:
    module = import_module(f"engine.judge.{JUDGES[constraint.kind]}")
    made: Judge = module.make(constraint)
    return made
