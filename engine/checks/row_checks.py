"""What checks say of one row's text: which values are still to be asked about, and which are known to be wrong.

Asking takes its time and happens elsewhere (`service`): what is not known is raised as `Undecided`, and looked for
again once the answers are there. A value is asked about once, with the document as it was when the value closed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

from engine.checks.closed_values import STRUCTURE, Closed, ClosedValues
from engine.judge import Judgement, Undecided
from engine.pointer import steps
from engine.schema.verdicts.verdict import Verdict

KEYWORD = "check"
"""What a check is called among verdicts and failures."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one request: at which `pointer`, by which `name`, and where it is found: `target` names what its own
    process imports, `function` is what a thread of this one runs where there is no such name. `parses`: it is one of
    our own parsers, whose time grows with the text."""

    pointer: str
    name: str
    target: str | None
    function: Callable[[Any, Any], Any] | None = None
    parses: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One question: is the value at `pointer` right, which ends this text? `closers` end what was open by then."""

    check: Check
    pointer: str
    text: memoryview
    closers: bytes
    key: bytes

    @property
    def document(self) -> bytes:
        """Made where it is needed: together those of all values of a text have its length squared."""
        return bytes(self.text) + self.closers


def verdicts_of(checks: Sequence[Check]) -> tuple[Verdict, ...]:
    """One each, at its pointer into documents."""
    return tuple(
        Verdict(check.pointer, KEYWORD, "checked", f"asked of each value there: {check.name}") for check in checks
    )


class RowChecks:
    """Of one row; used by the thread that decodes."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._checks = checks
        self._places = [steps(check.pointer) for check in checks]
        self._values = ClosedValues(self._places)
        self._answers: dict[bytes, str | None] = {}
        self._stays: set[bytes] = set()
        self._wrong = b""
        self._looked_at: Sequence[Closed] = ()
        self._passed = 0
        """So many of them are answered, and stay."""

    def failing_start(self, text: bytes, *, ended: bool) -> int | None:
        """Where the first closed value begins that is wrong. Raises Undecided for those not asked about."""
        closed = self._values.read(text, ended=ended)
        if closed is not self._looked_at:
            self._looked_at, self._passed = closed, 0
        wrong = self._first_wrong(closed[self._passed :], text, self._stays)
        if wrong is None:
            self._passed = len(closed)
        self._wrong = b"" if wrong is None else wrong.key
        return None if wrong is None else wrong.start

    def leave(self) -> None:
        """The value that was wrong last stays: nothing else could be written."""
        self._stays.add(self._wrong)

    def judgement(self, text: bytes) -> Judgement:
        """Of a whole text. Raises Undecided for values not asked about."""
        wrong = self._first_wrong(ClosedValues(self._places).read(text, ended=True), text)
        if wrong is None:
            return Judgement(True)
        return Judgement(False, self._answers[wrong.key], wrong.pointer, KEYWORD)

    def learn(self, calls: Sequence[Call], answers: Sequence[str | None]) -> None:
        """What came of these calls, in order; behind the first that is wrong none was made."""
        self._answers |= {call.key: answer for call, answer in zip(calls, answers, strict=False)}

    def holds(self, token: bytes, text: Callable[[], bytes]) -> bool:
        """Whether the end of the text, of which this is the last token, may be taken back."""
        if not STRUCTURE.isdisjoint(token):
            self._values.read(text())
        return self._values.watching

    def _first_wrong(self, values: Sequence[Closed], text: bytes, but: Set[bytes] = frozenset()) -> Closed | None:
        unknown: list[Call] = []
        for closed in values:
            if closed.key not in self._answers:
                before = memoryview(text)[: closed.end]
                unknown.append(Call(self._checks[closed.watch], closed.pointer, before, closed.closers, closed.key))
            elif self._answers[closed.key] is not None and closed.key not in but:
                if unknown:
                    break
                return closed
        if unknown:
            raise Undecided(calls=tuple(unknown))
        return None
