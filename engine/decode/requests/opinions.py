"""The judge as a row sees it: it answers from what it has been told, and asks for the rest.

Judging happens elsewhere and takes its time (`judge.service`); meanwhile the row waits as one does whose grammar is not
there. What had been begun begins again once the answer is there, and finds it here.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.checks.row_checks import Call
from engine.judge import Judgement, Undecided
from engine.judge.service import Verdict

if TYPE_CHECKING:
    from engine.request import Status


class Opinions:
    """What is known about texts of one row, and the CPU seconds that judging them took."""

    def __init__(self) -> None:
        self._known: dict[bytes, Judgement] = {}
        self.spent_s = 0.0

    def __call__(self, data: bytes) -> Judgement:
        """Raises Undecided for a text that has not been judged."""
        found = self._known.get(data)
        if found is None:
            raise Undecided((data,))
        return found

    def learn(self, texts: tuple[bytes, ...], verdict: Verdict) -> None:
        """Behind the first valid text nothing was judged; nobody will ask for it. Earlier answers are forgotten."""
        self.spent_s += verdict.cpu_s
        self._known |= dict(zip(texts, verdict.judgements, strict=False))

    def forget(self) -> None:
        """The text has gone on."""
        self._known.clear()


@dataclass(slots=True)
class Question:
    """Texts that are being judged for a row, or calls of checks, and what it does when they are answered. `status` is
    what it had by then."""

    texts: tuple[bytes, ...]
    calls: tuple[Call, ...]
    again: Callable[[], None]
    status: Status | None
    ends: bool
    """Asked while the row is being ended: nothing else can end it."""
    answer: Future[Any] | None = None
    """A Verdict, or the checks' answers."""
