"""Short texts that were judged lately are not judged again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.config import Limits
from engine.judge import service as judging
from engine.judge.service import JudgeService
from engine.request import Constraint

COUNT = Constraint.json_schema({"type": "integer"}).unchecked
WORD = Constraint.json_schema({"type": "string"}).unchecked


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[JudgeService, list[Any]]]:
    """A service, and what its processes were asked."""
    service, jobs = JudgeService(Limits()), list[Any]()
    submit = service._pool.submit
    monkeypatch.setattr(service._pool, "submit", lambda job, owners: (jobs.append(job), submit(job, owners))[1])
    yield service, jobs
    service.close()


def test_the_same_text_of_the_same_constraint_and_owner_is_judged_once(asked: tuple[JudgeService, list[Any]]) -> None:
    service, jobs = asked
    first, again = (service.submit(COUNT, (b"12",), owner="a").result(60) for _ in range(2))
    assert first.judgements == again.judgements
    assert (first.judgements[0].valid, again.cpu_s, len(jobs)) == (True, 0.0, 1)
    wrong, still = (service.submit(COUNT, (b'"x"',), owner="a").result(60) for _ in range(2))
    assert wrong.judgements == still.judgements
    assert not still.judgements[0].valid
    assert not service.submit(WORD, (b"12",), owner="a").result(60).judgements[0].valid
    assert service.submit(COUNT, (b"12",), owner="b").result(60).judgements[0].valid
    assert len(jobs) == 4, "another text, constraint, and owner"


def test_what_is_remembered_is_bounded(asked: tuple[JudgeService, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    service, jobs = asked
    monkeypatch.setattr(judging, "_CONSTRAINTS", 2)
    monkeypatch.setattr(judging, "_TEXTS", 3)
    for number in range(7):
        service.submit(COUNT, (b"%d" % number,), owner=number % 3).result(60)
        service.submit(COUNT, (b"%d" % number,)).result(60)
    known = service._verdicts._by_session
    assert len(known) == 2
    assert all(0 < len(texts) <= 3 for texts in known.values())
    before, long = len(jobs), b'"' + b"x" * judging._SHORT + b'"'
    for _ in range(2):
        assert service.submit(WORD, (long,)).result(60).judgements[0].valid
    assert len(jobs) == before + 2
