"""The last word on finished texts: each is judged elsewhere, within bounds, while decoding goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any, TypeVar

from engine.checks.row_checks import Call
from engine.checks.service import CheckService
from engine.decode.requests.job import Sample
from engine.decode.requests.opinions import Question
from engine.errors import CheckTimeout, JudgingLimit
from engine.judge import Judgement, Undecided
from engine.judge.service import JudgeService, Verdict
from engine.schema.reading.validator import JsonInvalid, parse_json

T = TypeVar("T")
_UNKNOWN = Judgement(False)
GRACE_S = 0.8
"""What judging may last beyond the deadline: a document that was closed at it is still judged."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A judgement, and the parsed document of a JSON constraint where the text is JSON."""

    judgement: Judgement
    value: Any = None


@dataclass(slots=True)
class _Ended:
    """An ended text: first the judge is asked, then, where he finds it valid, the checks."""

    data: bytes
    answer: Future[Any]
    calls: tuple[Call, ...] = ()
    judgement: Judgement = _UNKNOWN


class Judging:
    """Rows that wait for the judge or for checks, in the middle of their text or at its end. The decode thread's."""

    def __init__(self, service: JudgeService, checks: CheckService, wake: Callable[[], None]) -> None:
        self._service = service
        self._checks = checks
        self._wake = wake
        self._asking: list[Sample] = []
        self._ended: dict[Sample, _Ended] = {}

    def __bool__(self) -> bool:
        return bool(self._ended)

    def __contains__(self, sample: Sample) -> bool:
        return sample in self._ended

    def ask(self, sample: Sample) -> None:
        """Have the question of a row answered."""
        question = sample.question
        if question is not None and question.answer is None:
            asked = question.texts
            question.answer = self._judge(sample, asked) if asked else self._call(sample, question.calls)
            self._asking.append(sample)

    def end(self, sample: Sample, data: bytes) -> None:
        """Have the whole text of an ended row judged."""
        self._ended[sample] = _Ended(data, self._judge(sample, (data,)))

    def drop(self, sample: Sample) -> None:
        """Nobody waits for what is being judged of a row."""
        question, sample.question = sample.question, None
        if question is not None and question.answer is not None:
            question.answer.cancel()
        if sample in self._ended:
            self._ended.pop(sample).answer.cancel()

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
            sample.guard(lambda s=sample, q=question: _learn(s, q))  # type: ignore[misc]  # bound now
            if sample.error is None:
                sample.guard(lambda s=sample, q=question: s.pursue(q.again, ends=q.ends))  # type: ignore[misc]  # bound now
            yield sample

    def judged(self) -> Iterator[tuple[Sample, Judged]]:
        """Ended rows with what the judge says of them; where it could not say, the sample has failed."""
        for sample, ended in list(self._ended.items()):
            if not ended.answer.done() and not sample.job.overdue(GRACE_S):
                continue
            judged = Judged(Judgement(False))
            try:
                judgement = self._judgement(sample, ended)
                constraint = sample.job.request.constraint
                judged = Judged(judgement, _value(ended.data, judgement) if constraint and constraint.is_json else None)
            except Undecided as asked:
                ended.calls, ended.answer = asked.calls, self._call(sample, asked.calls)
                continue
            except BaseException as error:  # noqa: BLE001 - a text that could not be judged fails alone
                sample.fail(error)
            del self._ended[sample]
            yield sample, judged

    def _judgement(self, sample: Sample, ended: _Ended) -> Judgement:
        """What is known of an ended text now. Raises Undecided where its checks have not been asked."""
        if ended.calls and sample.checks is not None:
            sample.checks.learn(ended.calls, _answers(ended.answer))
        else:
            ended.judgement = _result(ended.answer).judgements[0]
        if not ended.judgement.valid or sample.checks is None:
            return ended.judgement
        checked = sample.checks.judgement(ended.data)
        return ended.judgement if checked.valid else checked

    def _judge(self, sample: Sample, texts: Sequence[bytes]) -> Future[Verdict]:
        constraint = sample.job.request.constraint
        if constraint is None:
            raise ValueError("free text has no judge")
        spent_s = sample.opinions.spent_s
        answer = self._service.submit(constraint.unchecked, texts, owner=sample.job.owner, spent_s=spent_s)
        answer.add_done_callback(lambda _: self._wake())
        return answer

    def _call(self, sample: Sample, calls: Sequence[Call]) -> Future[list[str | None]]:
        answer = self._checks.submit(calls, owner=sample.job.owner)
        answer.add_done_callback(lambda _: self._wake())
        return answer


def _learn(sample: Sample, question: Question) -> None:
    """Raises what the judge or a check ended with instead of an answer."""
    if question.answer is None:
        return
    if question.texts:
        sample.opinions.learn(question.texts, _result(question.answer))
    elif sample.checks is not None:
        sample.checks.learn(question.calls, _answers(question.answer))


def _result(answer: Future[Verdict]) -> Verdict:
    """Raises JudgingLimit where the deadline has passed first."""
    return _settled(answer, JudgingLimit, "the deadline passed while the document was judged", "judging was stopped")


def _answers(answer: Future[list[str | None]]) -> list[str | None]:
    """Raises CheckTimeout where the deadline has passed first."""
    return _settled(answer, CheckTimeout, "the deadline passed while a check ran", "a check was stopped")


def _settled(answer: Future[T], kind: type[JudgingLimit | CheckTimeout], late: str, stopped: str) -> T:
    if not answer.done():
        answer.cancel()
        raise kind(late, param="deadline_s")
    try:
        return answer.result()
    except CancelledError:
        raise kind(stopped, param="deadline_s") from None


def _value(data: bytes, judgement: Judgement) -> Any:
    try:
        return parse_json(data)
    except JsonInvalid:
        if judgement.valid:  # the judge's process may go deeper than this one
            raise JudgingLimit("the document nests too deeply for its value to be read", param="schema") from None
        return None
