"""MaskBench on its own small data: the JSON line's keys, resuming, and labels that the validator shares."""

from __future__ import annotations

import json
import shutil

import pytest

from bench.conformance.engine_process import EngineProcess
from bench.conformance.failures import validator
from bench.datasets.cases import OWN_CASES, load_cases
from bench.maskbench import __main__ as maskbench
from bench.maskbench.interleaved import OUTCOMES, RUN

COUNTS = {"schemas", "compiled", "valid_total", "valid_rejected", "invalid_total"}
COUNTS |= {"invalid_accepted_unnamed", "invalid_accepted_named"}


def last_line(text: str) -> dict:
    return json.loads(text.strip().splitlines()[-1])


def test_labels_of_our_own_cases_agree_with_the_validator():
    wrong = []
    for case in load_cases(OWN_CASES):
        check = validator(case.schema)
        wrong += [(case.name, test.text) for test in case.tests if check.is_valid(test.data) != test.valid]
    assert wrong == []


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """One quick run of ours, its folder and its printed text."""
    out = tmp_path_factory.mktemp("maskbench")
    return maskbench.main(["--quick", "--engines", "ours", "--out", str(out)]), out


def test_quick_run_ends_with_a_line_that_has_its_documented_keys(quick):
    code, out = quick
    line = last_line((out / "maskbench.jsonl").read_text(encoding="utf-8"))
    ours = line["engines"]["ours"]
    assert code == 0
    assert line["bench"] == "maskbench"
    assert ours.keys() >= COUNTS
    assert set(ours["compile_ms"]) == set(ours["fill_us"]) == {"p50", "p90", "p99", "max"}
    assert ours["fill_us"]["p50"] <= ours["fill_us"]["p90"] <= ours["fill_us"]["p99"] <= ours["fill_us"]["max"]
    assert 0 < ours["compiled"] <= ours["schemas"] == len(load_cases(OWN_CASES))


def test_our_own_schemas_all_compile_and_nothing_is_let_through_in_silence(quick):
    _, out = quick
    ours = last_line((out / "maskbench.jsonl").read_text(encoding="utf-8"))["engines"]["ours"]
    assert ours["crashed"] == 0
    assert ours["compiled"] == ours["schemas"]
    assert ours["valid_rejected"] == 0
    assert ours["invalid_accepted_unnamed"] == 0


def test_a_second_run_takes_known_outcomes_from_the_folder(quick, capsys, monkeypatch):
    _, out = quick
    monkeypatch.setattr(EngineProcess, "run", lambda *_: pytest.fail("an outcome that is kept was computed again"))
    before = (out / OUTCOMES).read_text(encoding="utf-8")
    assert maskbench.main(["--quick", "--engines", "ours", "--out", str(out)]) == 0
    assert (out / OUTCOMES).read_text(encoding="utf-8") == before
    assert last_line(capsys.readouterr().out)["engines"]["ours"]["schemas"] == len(load_cases(OWN_CASES))


def test_outcomes_of_another_commit_are_not_gone_on_with(quick, monkeypatch, tmp_path):
    _, out = quick
    folder = tmp_path / "copy"
    shutil.copytree(out, folder)
    monkeypatch.setattr(maskbench, "commit", lambda: "0" * 40)
    with pytest.raises(SystemExit, match="holds outcomes of commit"):
        maskbench.main(["--quick", "--engines", "ours", "--out", str(folder)])
    (folder / RUN).unlink()
    with pytest.raises(SystemExit, match="nobody knows"):
        maskbench.main(["--quick", "--engines", "ours", "--out", str(folder)])


def test_an_unknown_engine_is_a_wrong_use(capsys):
    with pytest.raises(SystemExit) as stop:
        maskbench.main(["--quick", "--engines", "nobody"])
    assert stop.value.code == 2
    assert "nobody" in capsys.readouterr().err
