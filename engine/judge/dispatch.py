"""Which judge a constraint has. Pure: what a judgement may cost is `service`'s business."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module

from engine.errors import ConstraintError
from engine.judge.judgement import Judge, Judgement
from engine.request import Constraint
from engine.schema.embed import refuse_broken

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


def judge(constraint: Constraint, data: bytes) -> Judgement:
    """Judge a whole text. Raises what `judge_of` raises."""
    return judge_of(constraint)(data)


@lru_cache(maxsize=64)
def judge_of(constraint: Constraint) -> Judge:
    """The judge of this constraint; the last 64 are kept. ConstraintError where the source is none of its kind."""
    module = import_module(f"engine.judge.{JUDGES[constraint.kind]}")
    made: Judge = module.make(constraint)
    return made


def refuse_unreadable(constraint: Constraint) -> None:
    """ConstraintError, with the place, for what is none of its kind and for what no judge can read."""
    try:
        judge_of(constraint)
    except ConstraintError:
        refuse_broken(constraint)  # says where in the constraint it is
        raise
