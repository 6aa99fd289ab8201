"""The official-suite runner on cases of our own: no wrong outcome, none that differs from the committed letters."""

from __future__ import annotations

import json

import pytest

from bench import suite
from bench.conformance.engine_process import Outcome
from bench.conformance.failures import validator
from bench.conformance.judged import Judge
from bench.conformance.walk import Walk
from bench.datasets.cases import Case, Instance, load_cases
from bench.harness.record import ROOT

OWN = ROOT / "bench" / "data" / "suite" / "own.jsonl"
EXPECTED = OWN.with_name("own_expected.json")


def test_labels_of_our_own_groups_agree_with_the_validator():
    for case in load_cases(OWN):
        if "refRemote" not in case.group:
            check = validator(case.schema)
            assert [check.is_valid(test.data) for test in case.tests] == [test.valid for test in case.tests], case.name


def test_outcomes_are_the_expected_ones_and_a_changed_letter_is_told(tmp_path, capsys):
    out = tmp_path / "out"
    assert suite.main([str(OWN), "--expected", str(EXPECTED), "--out", str(out)]) == 0, capsys.readouterr().out
    line = json.loads((out / "suite.jsonl").read_text(encoding="utf-8"))
    assert line["outcomes"].get("X", 0) == 0
    assert sum(line["outcomes"].values()) == line["tests"] == sum(len(case.tests) for case in load_cases(OWN))
    changed = json.loads(EXPECTED.read_text(encoding="utf-8"))
    changed["draft7/type.json"] = ["...X"]
    assert suite.compare(EXPECTED, changed, update=False) == ["draft7/type.json"]
    assert "draft7/type.json" in capsys.readouterr().out


def test_format_json_is_left_out():
    assert set(suite.LEFT_OUT) == {"draft7/format.json", "draft2020-12/format.json"}


@pytest.mark.parametrize(("accepted", "letters"), [([True, False], ".."), ([False, True], "XX"), ([True, True], ".X")])
def test_letters_without_verdicts(accepted, letters):
    case = Case("c", {"type": "integer"}, (Instance(1, True), Instance("a", False)))
    outcome = Outcome("e", "c", compiled=True, walks=[Walk(one) for one in accepted])
    assert suite.letters(outcome, Judge([case]).judge(outcome)) == letters
