"""The joined report: every run is in it with its configuration, markup is escaped."""

from __future__ import annotations

import json
import re

import pytest

from bench.harness.record import record
from bench.report import main, read_lines


def fill(folder):
    runs = [{"loop": "<ours>", "batch": 1, "ms_per_step": 2.0}, {"loop": "peer", "batch": 8, "ms_per_step": 8.0}]
    engines = {"a": {"fill_us": {"p50": 1.0, "p99": 9.0}}, "b": {"fill_us": {"p50": 2.0, "p99": 900.0}}}
    lines = [
        record("mask_overhead", {"runs": runs}, configuration={"model": "m & n"}),
        record("maskbench", {"engines": engines, "total": 3}, configuration={"sample": 7}),
    ]
    (folder / "a").mkdir()
    (folder / "a" / "x.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    (folder / "other.jsonl").write_text('{"engine":"a","case":"no line of a bench"}\n', encoding="utf-8")


def test_the_page_holds_every_run_escaped_and_with_its_configuration(tmp_path):
    fill(tmp_path)
    out = tmp_path / "r.html"
    assert main([str(tmp_path), "-o", str(out)]) == 0
    page = out.read_text(encoding="utf-8")
    assert page.count('<div class="run">') == 2
    assert "&lt;ours&gt;" in page
    assert "<ours>" not in page
    assert "m &amp; n" in page
    assert page.count("<details>") == 2
    assert not re.search(r"https?://|src=", page)


def test_no_line_is_an_exit_of_1_and_a_broken_one_is_named(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "no bench line" in capsys.readouterr().err
    (tmp_path / "x.jsonl").write_text("{broken\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x\.jsonl:1"):
        read_lines(tmp_path)
