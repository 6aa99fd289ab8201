"""What a process does that judges: a session is one constraint, a job some texts, judged until one of them is valid."""

from __future__ import annotations

import json
from collections.abc import Callable

from engine.judge import json_schema  # noqa: F401 - imported before anything is forked
from engine.judge.dispatch import judge_of
from engine.request import Constraint


def prepare(name: str, content: bytes) -> None:
    """Nothing is asked for beforehand."""


def open_session(name: str, setup: bytes) -> Callable[[bytes], bytes]:  # noqa: ARG001 - one name
    """`setup` is the constraint as JSON."""
    judge = judge_of(Constraint(**json.loads(setup)))

    def answer(payload: bytes) -> bytes:
        head, _, texts = payload.partition(b"\n")
        judgements = []
        for length in json.loads(head):
            judgements.append(judge(texts[:length]))
            texts = texts[length:]
            if judgements[-1].valid:
                break
        return json.dumps([judgement.to_dict() for judgement in judgements]).encode()

    return answer
