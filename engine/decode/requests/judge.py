"""The last word on finished texts: each is judged elsewhere, within bounds, while decoding goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any

from engine.decode.requests.job import Sample
from engine.errors import JudgingLimit
from engine.judge import Judgement
from engine.judge.service import JudgeService, Verdict
from engine.schema.reading.validator import JsonInvalid, parse_json

GRACE_S = 0.8
"""What judging may last beyond the deadline: a document that was closed at it is still judged."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A judgement, and the parsed document of a JSON constraint where the text is JSON."""

    judgement: Judgement
    value: Any = None


class Judging:
    """Rows that wait for the judge, in the middle of their text or at its end. Used by the decode thread."""

    def __init__(self, service: JudgeService, wake: Callable[[], None]) -> None:
        self._service = service
        self._wake = wake
        self._asking: list[Sample] = []
        self._ended: dict[Sample, tuple[bytes, Future[Verdict]]] = {}

    def __bool__(self) -> bool:
        return bool(self._ended)

    def __contains__(self, sample: Sample) -> bool:
        return sample in self._ended

    def ask(self, sample: Sample) -> None:
        """Have the question of a row judged."""
        if sample.question is not None and sample.question.answer is None:
            sample.question.answer = self._submit(sample, sample.question.texts)
            self._asking.append(sample)

    def end(self, sample: Sample, data: bytes) -> None:
        """Have the whole text of an ended row judged."""
        self._ended[sample] = (data, self._submit(sample, (data,)))

    def drop(self, sample: Sample) -> None:
        """Nobody waits for what is being judged of a row."""
        question, sample.question = sample.question, None
        if question is not None and question.answer is not None:
            question.answer.cancel()
        if sample in self._ended:
            self._ended.pop(sample)[1].cancel()

    def answered(self) -> Iterator[Sample]:
        """Rows that can go on: `question.again`, with their status as it was; or that failed."""
        waiting, self._asking = self._asking, []
        for sample in waiting:
            question = sample.question
            if question is None or question.answer is None or sample.status is not None:
                continue
            if not question.answer.done() and not sample.job.overdue(GRACE_S):
                self._asking.append(sample)
                continue
            sample.question, sample.status = None, question.status
            sample.guard(lambda s=sample, q=question: s.opinions.learn(q.texts, _result(q.answer)))  # type: ignore[misc]  # bound now
            if sample.error is None:
                sample.guard(lambda s=sample, q=question: s.pursue(q.again, ends=q.ends))  # type: ignore[misc]  # bound now
            yield sample

    def judged(self) -> Iterator[tuple[Sample, Judged]]:
        """Ended rows with what the judge says of them; where it could not say, the sample has failed."""
        for sample, (data, answer) in list(self._ended.items()):
            if not answer.done() and not sample.job.overdue(GRACE_S):
                continue
            del self._ended[sample]
            judged = Judged(Judgement(False))
            try:
                judgement = _result(answer).judgements[0]
                constraint = sample.job.request.constraint
                judged = Judged(judgement, _value(data, judgement) if constraint and constraint.is_json else None)
            except BaseException as error:  # noqa: BLE001 - a text that could not be judged fails alone
                sample.fail(error)
            yield sample, judged

    def _submit(self, sample: Sample, texts: Sequence[bytes]) -> Future[Verdict]:
        constraint = sample.job.request.constraint
        if constraint is None:
            raise ValueError("free text has no judge")
        spent_s = sample.opinions.spent_s
        answer = self._service.submit(constraint, texts, owner=sample.job.owner, spent_s=spent_s)
        answer.add_done_callback(lambda _: self._wake())
        return answer


def _result(answer: Future[Verdict]) -> Verdict:
    """Raises JudgingLimit where the deadline has passed first."""
    if not answer.done():
        answer.cancel()
        raise JudgingLimit("the deadline passed while the document was judged", param="deadline_s")
    try:
        return answer.result()
    except CancelledError:
        raise JudgingLimit("judging was stopped", param="deadline_s") from None


def _value(data: bytes, judgement: Judgement) -> Any:
    try:
        return parse_json(data)
    except JsonInvalid:
        if judgement.valid:  # the judge's process may go deeper than this one
            raise JudgingLimit("the document nests too deeply for its value to be read", param="schema") from None
        return None
