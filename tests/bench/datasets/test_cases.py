"""Labelled cases in the two forms of file, and what is not one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.datasets.cases import load_cases


def test_cases_of_a_folder_and_of_the_official_form_are_read(tmp_path: Path):
    plain = {"name": "one", "schema": True, "tests": [{"data": 1, "valid": True}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(plain) + "\n" + json.dumps(plain) + "\n", encoding="utf-8")
    official = {"draft": "draft7", "file": "type.json", "description": "d", "schema": {"type": "null"}, "tests": []}
    (tmp_path / "b.json").write_text(json.dumps(official), encoding="utf-8")
    cases = load_cases(tmp_path)
    assert [case.name for case in cases] == ["one", "one (2)", "draft7/type.json: d"]
    assert cases[2].schema["$schema"].startswith("http://json-schema.org/draft-07")


def test_a_line_that_is_no_case_is_named(tmp_path: Path):
    file = tmp_path / "bad.jsonl"
    file.write_text('{"schema": {}}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad\.jsonl:1"):
        load_cases(file)
