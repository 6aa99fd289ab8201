"""MaskBench on its own small data: the JSON line's keys, resuming, killing, and labels that the validator shares."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bench import maskbench
from bench.cases import Case, Instance, load_cases
from bench.maskbench import OWN_DATA
from bench.naming import validator
from bench.worker import Settings, Worker

COUNTS = {
    "schemas",
    "compiled",
    "valid_total",
    "valid_rejected",
    "invalid_total",
    "invalid_accepted_unnamed",
    "invalid_accepted_named",
}


def last_line(text: str) -> dict:
    return json.loads(text.strip().splitlines()[-1])


def test_labels_of_our_own_cases_agree_with_the_validator():
    wrong = []
    for case in load_cases(OWN_DATA):
        check = validator(case.schema)
        wrong += [(case.name, test.text) for test in case.tests if check.is_valid(test.data) != test.valid]
    assert wrong == []


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """One quick run of ours, its folder and its printed text."""
    out = tmp_path_factory.mktemp("maskbench")
    findings = out / "findings.md"
    code = maskbench.main(["--quick", "--engines", "ours", "--out", str(out), "--findings", str(findings)])
    return code, out, findings.read_text(encoding="utf-8")


def test_quick_run_ends_with_a_line_that_has_its_documented_keys(quick):
    code, out, _ = quick
    line = last_line((out / "maskbench.jsonl").read_text(encoding="utf-8"))
    ours = line["engines"]["ours"]
    assert code == 0
    assert line["bench"] == "maskbench"
    assert ours.keys() >= COUNTS
    assert set(ours["compile_ms"]) == set(ours["fill_us"]) == {"p50", "p90", "p99", "max"}
    assert ours["fill_us"]["p50"] <= ours["fill_us"]["p90"] <= ours["fill_us"]["p99"] <= ours["fill_us"]["max"]
    assert 0 < ours["compiled"] <= ours["schemas"] == len(load_cases(OWN_DATA))


def test_our_own_schemas_all_compile_and_nothing_is_let_through_in_silence(quick):
    _, out, findings = quick
    ours = last_line((out / "maskbench.jsonl").read_text(encoding="utf-8"))["engines"]["ours"]
    assert ours["crashed"] == 0, findings
    assert ours["compiled"] == ours["schemas"], findings
    assert ours["valid_rejected"] == 0, findings
    assert ours["invalid_accepted_unnamed"] == 0, findings


def test_a_second_run_takes_known_outcomes_from_the_folder(quick, capsys, monkeypatch):
    _, out, _ = quick
    monkeypatch.setattr(Worker, "run", lambda *_: pytest.fail("an outcome that is kept was computed again"))
    before = (out / maskbench.OUTCOMES).read_text(encoding="utf-8")
    assert maskbench.main(["--quick", "--engines", "ours", "--out", str(out)]) == 0
    assert (out / maskbench.OUTCOMES).read_text(encoding="utf-8") == before
    assert last_line(capsys.readouterr().out)["engines"]["ours"]["schemas"] == len(load_cases(OWN_DATA))


def test_outcomes_of_another_commit_are_not_gone_on_with(quick, monkeypatch, tmp_path):
    _, out, _ = quick
    folder = tmp_path / "copy"
    shutil.copytree(out, folder)
    monkeypatch.setattr(maskbench, "commit", lambda: "0" * 40)
    with pytest.raises(SystemExit, match="holds outcomes of commit"):
        maskbench.main(["--quick", "--engines", "ours", "--out", str(folder)])
    (folder / maskbench.RUN).unlink()
    with pytest.raises(SystemExit, match="nobody knows"):
        maskbench.main(["--quick", "--engines", "ours", "--out", str(folder)])


def test_an_unknown_engine_is_a_wrong_use(capsys):
    with pytest.raises(SystemExit) as stop:
        maskbench.main(["--quick", "--engines", "nobody"])
    assert stop.value.code == 2
    assert "nobody" in capsys.readouterr().err


def test_an_engine_that_hangs_or_dies_costs_one_case_and_the_next_one_runs():
    easy = Case("easy", {"type": "integer"}, (Instance("yes", True), Instance("no", False)))
    worker = Worker("tests.bench.scripted_engine", Settings("bytes", repeats=1, compile_limit_s=0.3, walk_limit_s=0.3))
    try:
        found = {name: worker.run(Case(name, {"act": name}, easy.tests)) for name in ("hang", "die", "refuse", "raise")}
        stuck = worker.run(Case("stuck", {"act": "stuck"}, easy.tests))
        after = worker.run(easy)
    finally:
        worker.close()
    assert {name: (one.compiled, one.crashed) for name, one in found.items()} == {
        "hang": (False, True),
        "die": (False, True),
        "refuse": (False, False),
        "raise": (False, True),
    }
    assert "passed 0.3 s" in found["hang"].reason
    assert "exit code 3" in found["die"].reason
    assert found["refuse"].reason == "not today"
    assert found["raise"].reason == "KeyError: 'raise'"
    assert (stuck.compiled, stuck.accepted) == (True, [None, None])
    assert (after.compiled, after.accepted) == (True, [True, False])


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
