"""The read bench runs, covers every reader, and its shares follow from its seconds."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest

from bench.checkpoint_read import __main__ as checkpoint_read
from bench.checkpoint_read.foreign import FORMATS, layers_in, write
from bench.checkpoint_read.packed import loader


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


@pytest.mark.parametrize("name", FORMATS)
def test_other_tools_formats_are_read_as_they_were_written(name: str, tmp_path: Path) -> None:
    (path, *_) = write(
        tmp_path / name, name, checkpoint_read.QUICK_SHAPE, layers_in(name, checkpoint_read.QUICK_SHAPE, 9)
    )
    loader(path.parent if path.suffix == ".safetensors" else path, "cpu")()


def test_formats_are_compared_with_dd_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint_read.main(["--quick", "--packed", "fp8,q4_k"])
    runs = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    readers = product(("fp8", "q4_k"), ("dd", "reading and layout"))
    assert [(run["format"], run["reader"]) for run in runs] == list(readers)
    for reference, run in zip(runs[::2], runs[1::2], strict=True):
        assert run["share_of_dd"] == pytest.approx(reference["seconds"] / run["seconds"])
        assert run["gib"] == reference["gib"] > 0
        assert 0 < run["resident_gib"] < 4
