"""The mask-overhead bench: its line's keys and balance, and that a replay really replays."""

from __future__ import annotations

import json

import pytest

from bench import mask_overhead
from bench.replayed import Mark, Recording, ReplayRunner, decode_step_ms
from engine.interfaces import RowInput, Sampled

KEYS = {
    "loop",
    "batch",
    "schema_set",
    "overlap",
    "forced",
    "ms_per_step",
    "mask_hidden_us",
    "mask_exposed_us",
    "exposed_share",
}


def test_quick_run_has_its_documented_keys_and_its_figures_balance(tmp_path, capsys):
    assert mask_overhead.main(["--quick", "--out", str(tmp_path)]) == 0
    line = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert line["bench"] == "mask_overhead"
    assert len(line["runs"]) == 4
    for run in line["runs"]:
        assert run.keys() >= KEYS
        assert run["steps"] > 0
        assert run["ms_per_step"] > 0
        assert 0 <= run["exposed_share"] <= 1
        if not run["overlap"]:
            assert run["mask_hidden_us"] == 0
            assert run["mask_exposed_us"] > 0
    drafted = [run["tokens_per_step"] for run in line["runs"] if run["forced"] == "verify"]
    stepwise = [run["tokens_per_step"] for run in line["runs"] if run["forced"] == "off"]
    assert min(drafted) > 1
    assert set(stepwise) == {1.0}


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

    def wait(self):
        return Sampled(token_ids=[99] * self.rows)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (RowInput(0, [1, 2, 3], 0, 1), [10]),
        (RowInput(0, [10], 3, 1), [11]),
        (RowInput(0, [10, 11, 12], 3, 3), [11, 12, 13]),
        (RowInput(0, [1, 2], 0, 0), []),
        (RowInput(0, None, 4, 1), [12]),
    ],
)
def test_the_ids_of_a_step_are_those_that_follow_in_the_document(row, expected):
    runner = ReplayRunner(Recorder())
    runner.recording = Recording((10, 11, 12, 13), prompt_tokens=3)
    runner.forward([row])
    runner.sample(None)
    assert runner.wait().token_ids == expected
    if row.tokens is None:
        assert runner.inner.fed == [[(0, [11], 4)]]


def test_without_a_document_the_samples_pass_through():
    runner = ReplayRunner(Recorder())
    runner.forward([RowInput(0, [1], 0, 1)])
    assert runner.wait().token_ids == [99]


def test_only_times_between_full_decode_steps_count():
    marks = [Mark(0.0, 2, False), Mark(1.0, 2, True), Mark(2.0, 2, True), Mark(4.0, 2, True), Mark(9.0, 1, True)]
    assert decode_step_ms(marks, 2) == [2000.0]
