"""Whoever's job was stopped is told why, by a type of error that is his own unless somebody ended the process."""

from __future__ import annotations

from typing import get_args

import pytest

from engine import Constraint, Limits
from engine.errors import EngineError, EngineFailure, JudgingLimit, LimitExceeded, NotReady, QueueFull
from engine.grammar.compile.error_text import error_of
from engine.judge.service import JudgeService
from engine.sandbox import Stopped
from engine.sandbox.stopped import Reason

CONSTRAINT = Constraint.json_schema({"enum": [1, "a"]})
DETAILS = {
    "wall": "slept for 2 s",
    "busy": "0.3 s of CPU time in 200 s",
    "lost": "its process was ended twice",
    "crashed": "it died of signal 11",
}


@pytest.mark.parametrize("reason", get_args(Reason))
def test_every_reason_is_typed_and_told(reason: Reason) -> None:
    stopped, judges = Stopped(reason, DETAILS.get(reason, "")), JudgeService(Limits())
    try:
        found: list[EngineError] = [error_of(stopped, CONSTRAINT, Limits()), judges._error(stopped, CONSTRAINT)]
    finally:
        judges.close()
    ours = {"lost": [EngineFailure] * 2, "closed": [NotReady] * 2, "busy": [QueueFull, JudgingLimit]}
    expected = ours.get(reason, [LimitExceeded, JudgingLimit])
    assert [type(error) for error in found] == expected
    for error in found:
        assert DETAILS.get(reason, "") in error.message
        assert not error.message.rstrip(" .").endswith(":"), "a reason follows the colon"
