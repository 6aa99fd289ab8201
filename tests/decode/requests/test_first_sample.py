"""Samples whose first one ends before its first token: each ends in its own way, never with what the first one had."""

from __future__ import annotations

import json
from pathlib import Path

from engine import Constraint, Request, SamplingParams
from tests.decode.fakes import fake_engine, wants

NUMBERS = {"type": "array", "uniqueItems": True, "minItems": 2, "contains": {"minimum": 0},
           "items": {"type": "integer", "minimum": 0, "maximum": 9999}}  # fmt: skip
LONG = {"type": "string", "minLength": 60}


def test_siblings_of_one_that_the_judge_is_asked_about_before_its_first_token_are_decoded(tmp_path: Path) -> None:
    """What the model wants does not fit, and the ending in place of it must be judged first."""
    constraint = Constraint.json_schema({"anyOf": [LONG, NUMBERS]})
    engine, _ = fake_engine(wants('"' + "x" * 60 + '"'), tmp_path)
    with engine:
        assert engine.grammars.compile(constraint).judge is not None, "a keyword of it is only checked"
        params = SamplingParams(n=3, max_tokens=20, seed=1)
        result = engine.generate(Request(prompt="x", constraint=constraint, sampling=params))
    assert [(sample.status, sample.valid) for sample in result.samples or ()] == [("closed", True)] * 3
    assert all(isinstance(json.loads(sample.text), list) for sample in result.samples or ())
