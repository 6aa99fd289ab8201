"""An object has each key once, whatever the model wants, how often it wants it and where its budget ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from engine import Constraint, Request, Result, SamplingParams
from tests.decode.fakes import fake_engine, wants

FREE = {"type": "object", "additionalProperties": {"type": ["integer", "null"]}}


def again_and_again(fed: Sequence[int]) -> np.ndarray:
    """Wants the key a, every time."""
    return wants('{"a":1' + ',"a":1' * 40 + "}")(fed)


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "ahead"])
@pytest.mark.parametrize("conformance", ["tight", "spec"])
def test_a_repeated_key_is_never_written(conformance: Literal["tight", "spec"], ahead: bool, tmp_path: Path) -> None:
    engine, _ = fake_engine(again_and_again, tmp_path, launch_ahead=ahead)
    constraint = Constraint.json_schema(FREE, conformance=conformance)
    with engine:
        sampling = SamplingParams(temperature=0, max_tokens=60)
        *pieces, result = engine.stream(Request(prompt="x", constraint=constraint, sampling=sampling))
    assert isinstance(result, Result)
    assert (result.status, result.valid) in (("closed", True), ("complete", True))
    assert result.value["a"] == 1
    assert "".join(map(str, pieces)) == result.text
    assert len(pieces) > 3, "nothing is held back"


@pytest.mark.parametrize("keys", [[""] * 4, ["", "a", "aa", "aaa"]], ids=["the same", "the shortest"])
@pytest.mark.parametrize("schema", [FREE, {**FREE, "propertyNames": {"pattern": "^[a-c]{0,2}$"}}, {}])
def test_at_every_budget_the_ending_repeats_no_key(schema: Any, keys: list[str], tmp_path: Path) -> None:
    def short_keys(fed: Sequence[int]) -> np.ndarray:
        return wants("{" + ",".join(f'"{key}":0' for key in keys) + "}")(fed)

    engine, _ = fake_engine(short_keys, tmp_path)
    constraint = Constraint.json_schema(schema)
    with engine:
        for budget in range(3, 36):
            sampling = SamplingParams(temperature=0, max_tokens=budget)
            result = engine.generate(Request(prompt="x", constraint=constraint, sampling=sampling))
            assert result.status in ("complete", "closed"), (budget, result.text)
            assert len(result.token_ids) <= budget


@pytest.mark.parametrize("keys", ["^[a-c]$", "^[a-z]*$"])
def test_an_object_that_must_have_several_free_keys_is_ended_with_different_ones(keys: str, tmp_path: Path) -> None:
    schema = {**FREE, "propertyNames": {"pattern": keys}, "minProperties": 3}
    engine, _ = fake_engine(again_and_again, tmp_path)
    constraint = Constraint.json_schema(schema)
    with engine:
        least = engine.grammars.compile(constraint).min_tokens
        for budget in range(least, least + 12):
            sampling = SamplingParams(temperature=0, max_tokens=budget)
            result = engine.generate(Request(prompt="x", constraint=constraint, sampling=sampling))
            assert result.status in ("complete", "closed"), (budget, result.text)
            assert len(result.value) >= 3


def test_at_every_budget_the_key_that_is_left_still_fits(tmp_path: Path) -> None:
    names = {"a": {"type": "integer"}, "cc": {"type": "integer"}, "a_name_of_many_tokens": {"type": "integer"}}
    constraint = Constraint.json_schema(
        {"type": "object", "properties": names, "additionalProperties": False}, conformance="spec"
    )
    engine, _ = fake_engine(wants('{"a":0,"cc":0,"a":0,"cc":0,"a":0}'), tmp_path)
    with engine:
        for budget in range(3, 40):
            sampling = SamplingParams(temperature=0, max_tokens=budget)
            result = engine.generate(Request(prompt="x", constraint=constraint, sampling=sampling))
            assert (result.status in ("complete", "closed"), result.valid) == (True, True), (budget, result.text)
