"""A replay really replays: the ids of a step are those that follow in the document."""

from __future__ import annotations

import pytest

from bench.replay.runner import Mark, Recording, ReplayRunner, decode_step_ms
from engine.interfaces import FROM_DEVICE, RowInput, Sampled


class Recorder:
    """A runner that samples id 99 for every logits row and keeps what it was fed."""

    def __init__(self):
        self.fed = []
        self.rows = 0

    def forward(self, rows):
        self.fed.append([(row.slot, row.tokens, row.position) for row in rows])
        self.rows = sum(row.logits for row in rows)

    def sample(self, inputs):
        """Sampling is scripted: `wait` says what came out."""

    def timings(self):
        return {"forward": 900.0, "mask_wait": 40.0, "apply": 10.0, "sample": 50.0}

    def wait(self):
        return Sampled(token_ids=[99] * self.rows)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (RowInput(0, [1, 2, 3], 0, 1), [10]),
        (RowInput(0, [10], 3, 1), [11]),
        (RowInput(0, [10, 11, 12], 3, 3), [11, 12, 13]),
        (RowInput(0, [1, 2], 0, 0), []),
        (RowInput(0, [FROM_DEVICE], 4, 1), [12]),
        (RowInput(0, [FROM_DEVICE, 12], 4, 2), [12, 13]),
    ],
)
def test_the_ids_of_a_step_are_those_that_follow_in_the_document(row, expected):
    runner = ReplayRunner(Recorder())
    runner.recording = Recording({(1, 2, 3): (10, 11, 12, 13)})
    runner.forward([row])
    runner.sample(None)
    assert runner.wait().token_ids == expected
    if row.tokens[0] == FROM_DEVICE:
        assert runner.inner.fed == [[(0, [11, *row.tokens[1:]], 4)]]


def test_each_slot_replays_the_document_of_its_own_prompt():
    runner = ReplayRunner(Recorder())
    runner.recording = Recording({(1, 2): (10, 11), (1, 3): (20, 21)})
    runner.forward([RowInput(0, [1, 3], 0, 1), RowInput(1, [1, 2], 0, 1), RowInput(2, [4], 0, 1)])
    runner.sample(None)
    assert runner.wait().token_ids == [20, 10, 99]


def test_without_a_document_the_samples_pass_through():
    runner = ReplayRunner(Recorder())
    runner.forward([RowInput(0, [1], 0, 1)])
    assert runner.wait().token_ids == [99]


def test_only_times_between_full_decode_steps_count():
    marks = [Mark(0.0, 2, False), Mark(1.0, 2, True), Mark(2.0, 2, True), Mark(4.0, 2, True), Mark(9.0, 1, True)]
    assert decode_step_ms(marks, 2) == [2000.0]
