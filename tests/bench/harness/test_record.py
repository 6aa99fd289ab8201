"""The JSON line: what it always holds, what it refuses, and that it stays one line."""

from __future__ import annotations

import json

import pytest

from bench.harness.record import emit, record


def test_the_common_fields_are_there_and_the_line_is_one_line(tmp_path, capsys):
    line = record("probe", {"runs": [{"ms": 1.5}]}, configuration={"a": 1}, seeds=[3], repeats=2)
    assert {"commit", "dirty", "versions", "device", "data_sha256", "model_revision", "label"} <= line.keys()
    assert line["seeds"] == [3]
    assert line["versions"]["python"]
    emit(line, tmp_path)
    printed = capsys.readouterr().out
    assert json.loads(printed) == json.loads((tmp_path / "probe.jsonl").read_text(encoding="utf-8"))
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("figures", "options", "message"),
    [
        ({"runs": [{"ms": float("nan")}]}, {}, r"runs\.0\.ms"),
        ({"x": float("inf")}, {}, "x is not finite"),
        ({"commit": 1}, {}, "commit"),
        ({}, {"label": "guessed"}, "guessed"),
    ],
)
def test_a_line_that_would_mislead_is_refused(figures, options, message):
    with pytest.raises(ValueError, match=message):
        record("probe", figures, configuration={}, **options)
