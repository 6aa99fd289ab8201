"""The read bench runs, covers every reader, and its shares follow from its seconds."""

from __future__ import annotations

import json

import pytest

from bench.checkpoint_read import __main__ as checkpoint_read


def test_quick_run_ends_with_a_consistent_line(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint_read.main(["--quick"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["bench"] == "checkpoint_read"
    assert line["label"] == "measured"
    readers = {(run["cache"], run["reader"]): run for run in line["runs"]}
    assert len(readers) == 6
    for (cache, _), run in readers.items():
        assert run["share_of_dd"] == pytest.approx(readers[cache, "dd"]["seconds"] / run["seconds"])
        assert run["gb_s"] > 0
