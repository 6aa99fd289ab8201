"""A runner that replays recorded documents: the model computes as ever, and what it samples is replaced.

So a constrained and an unconstrained run, or two loops, go through identical tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from typing import Any

from engine.interfaces import FROM_DEVICE, RowInput, Runner, Sampled, SampleInputs


@dataclass(slots=True)
class Mark:
    """One forward: when it was asked for, how many rows, whether all of them only decoded, and tokens drafted."""

    at: float
    rows: int
    decode: bool
    drafted: int = 0


@dataclass(frozen=True, slots=True)
class Waited:
    """One step that sampled: when its ids were there, what it took of the device, and what of that it waited for the
    mask or applied it. Microseconds."""

    at: float
    took_us: float
    exposed_us: float


@dataclass(slots=True)
class Recording:
    """Documents by the prompt that each follows; a slot replays that of the prompt which its first tokens (those fed at
    position 0) begin. A single document is every slot's, whatever came before it. Without one, samples pass through."""

    by_prompt: Mapping[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)
    waits: list[Waited] = field(default_factory=list)
    slots: dict[int, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    """What each slot replays, and its prompt's length."""

    def of(self, slot: int) -> tuple[tuple[int, ...] | None, int]:
        """The slot's document and the length of the prompt before it."""
        if len(self.by_prompt) == 1:
            ((prompt, document),) = self.by_prompt.items()
            return document, len(prompt)
        return self.slots.get(slot, (None, 0))

    def begin(self, row: RowInput) -> None:
        """Note which document a slot replays when its prompt comes; drafts may follow the prompt at once."""
        if row.position == 0:
            fed = tuple(row.tokens)
            for prompt, document in self.by_prompt.items():
                if prompt[: len(fed)] == fed[: len(prompt)]:
                    self.slots[row.slot] = (document, len(prompt))


class ReplayRunner:
    """Wraps a `Runner`; `recording` may be replaced between requests. Everything else passes through."""

    def __init__(self, inner: Runner) -> None:
        self.inner = inner
        self.recording = Recording()
        self._wanted: list[tuple[int, int]] = []
        self._sampled: list[tuple[int, int]] = []
        """Slots and places of the step whose tokens are waited for; the next forward may have been launched by then."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def forward(self, rows: Sequence[RowInput]) -> None:
        decode = all(row.logits > 0 and len(row.tokens) == row.logits for row in rows)
        drafted = sum(max(0, row.logits - 1) for row in rows)
        self.recording.marks.append(Mark(perf_counter(), len(rows), decode, drafted))
        for row in rows:
            self.recording.begin(row)
        self._wanted = [(row.slot, position) for row in rows for position in self._positions(row)]
        self.inner.forward([self._explicit(row) for row in rows])

    def close(self) -> None:
        """Nothing: several engines share the model, and whoever loaded it closes `inner`."""

    def sample(self, inputs: SampleInputs) -> None:
        self._sampled = self._wanted
        self.inner.sample(inputs)

    def wait(self) -> Sampled:
        """The inner sample with its ids replaced, position by position."""
        sampled = self.inner.wait()
        if self._sampled:
            times = self.inner.timings()
            exposed = times.get("mask_wait", 0.0) + times.get("apply", 0.0)
            took = times.get("forward", 0.0) + exposed + times.get("sample", 0.0)
            self.recording.waits.append(Waited(perf_counter(), took, exposed))
        for index, (slot, position) in enumerate(self._sampled):
            document, _ = self.recording.of(slot)
            if document is not None:
                sampled.token_ids[index] = document[min(position, len(document) - 1)]
        return sampled

    def _positions(self, row: RowInput) -> range:
        """Places in the document of the ids that this row's logits rows will sample."""
        following = row.position + len(row.tokens) - self.recording.of(row.slot)[1]
        return range(following - row.logits + 1, following + 1)

    def _explicit(self, row: RowInput) -> RowInput:
        """A row that would feed what the device sampled last feeds the document's token instead."""
        document, prompt_tokens = self.recording.of(row.slot)
        if row.tokens[0] != FROM_DEVICE or document is None:
            return row
        token = document[min(row.position - prompt_tokens, len(document) - 1)]
        return RowInput(row.slot, [token, *row.tokens[1:]], row.position, row.logits)


def decode_step_ms(marks: Sequence[Mark], rows: int) -> list[float]:
    """Times between one decode step with `rows` rows and the next, in milliseconds. The first of a run is left out."""
    return [(b.at - a.at) * 1e3 for a, b in pairwise(marks) if a.decode and b.decode and a.rows == b.rows == rows][1:]
