"""The judge of JSON documents: strict JSON, then the caller's own schema with formats asserted."""

from __future__ import annotations

import json

from engine.judge.judgement import Judge, Judgement
from engine.request import Constraint
from engine.schema.reading.validator import Validator


def make(constraint: Constraint) -> Judge:
    """Raises SchemaInvalid or SchemaRefused for what no validator takes."""
    validator = Validator(json.loads(constraint.source))

    def judge(data: bytes) -> Judgement:
        checked = validator.check(data)
        return Judgement(checked.ok, checked.message, checked.pointer, checked.keyword)

    return judge
