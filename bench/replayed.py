"""A runner that replays recorded documents: the model computes as ever, and what it samples is replaced.

So a constrained and an unconstrained run, or two loops, go through identical tokens. Knows token arithmetic and the
clock; knows nothing of grammars.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from typing import Any

from engine.interfaces import RowInput, Runner, Sampled, SampleInputs


@dataclass(slots=True)
class Mark:
    """One forward: when it was asked for, how many rows, and whether all of them only decoded."""

    at: float
    rows: int
    decode: bool


@dataclass(slots=True)
class Recording:
    """`document` follows a prompt of `prompt_tokens`; every slot replays it. None replays nothing."""

    document: tuple[int, ...] | None = None
    prompt_tokens: int = 0
    marks: list[Mark] = field(default_factory=list)


class ReplayRunner:
    """Wraps a `Runner`; `recording` may be replaced between requests. Everything else passes through."""

    def __init__(self, inner: Runner) -> None:
        self.inner = inner
        self.recording = Recording()
        self._wanted: list[int] = []
        self._sampled: list[int] = []
        """Places of the step whose tokens are waited for; the next forward may have been launched by then."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def forward(self, rows: Sequence[RowInput]) -> None:
        decode = all(row.logits > 0 and _fed(row) == row.logits for row in rows)
        self.recording.marks.append(Mark(perf_counter(), len(rows), decode))
        self._wanted = [position for row in rows for position in self._positions(row)]
        self.inner.forward([self._explicit(row) for row in rows])

    def close(self) -> None:
        """Nothing: several engines share the model, and whoever loaded it closes `inner`."""

    def sample(self, inputs: SampleInputs) -> None:
        self._sampled = self._wanted
        self.inner.sample(inputs)

    def wait(self) -> Sampled:
        """The inner sample with its ids replaced, position by position."""
        sampled = self.inner.wait()
        document = self.recording.document
        if document is not None:
            sampled.token_ids = [document[min(position, len(document) - 1)] for position in self._sampled]
        return sampled

    def _positions(self, row: RowInput) -> range:
        """Places in the document of the ids that this row's logits rows will sample."""
        following = row.position + _fed(row) - self.recording.prompt_tokens
        return range(following - row.logits + 1, following + 1)

    def _explicit(self, row: RowInput) -> RowInput:
        """A row that would feed what the device sampled last feeds the document's token instead."""
        document = self.recording.document
        if row.tokens is not None or document is None:
            return row
        token = document[row.position - self.recording.prompt_tokens]
        return RowInput(row.slot, [token], row.position, row.logits)


def _fed(row: RowInput) -> int:
    return 1 if row.tokens is None else len(row.tokens)


def decode_step_ms(marks: Sequence[Mark], rows: int) -> list[float]:
    """Times between one decode step with `rows` rows and the next, in milliseconds. The first of a run is left out."""
    return [(b.at - a.at) * 1e3 for a, b in pairwise(marks) if a.decode and b.decode and a.rows == b.rows == rows][1:]


def median(values: Sequence[float]) -> float:
    """0 for no values, so that a table can be printed; callers check counts."""
    return statistics.median(values) if values else 0.0
