"""`batch`: one result a request whatever becomes of the others, whole lines only, and going on where a run stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineFailure, QueueFull, SchemaRefused, UnknownOption
from engine.request import Result
from tests.cli.conftest import Run, ScriptedEngine

THREE = '{"id": "a", "prompt": "p"}\n{"id": "b", "prompt": "q"}\n{"prompt": "r"}\n'


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    file = tmp_path / "in.jsonl"
    file.write_text(THREE)
    return file


def results(text: str) -> dict[str, dict[str, Any]]:
    return {line["id"]: line for line in map(json.loads, text.splitlines())}


def test_each_request_gets_one_result_line(maskloop: Run, scripted: ScriptedEngine, requests: Path) -> None:
    ran = maskloop("batch", str(requests))
    assert ran.code == 0
    assert {name: line["status"] for name, line in results(ran.out).items()} == {
        "a": "complete", "b": "complete", "line-3": "complete",
    }  # fmt: skip


def test_fields_of_a_line_reach_the_request(maskloop: Run, scripted: ScriptedEngine, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    lines = [
        {
            "messages": [{"role": "user", "content": "m"}],
            "schema": {"type": "object"},
            "whitespace": "flexible",
            "seed": 3,
        },
        {"prompt": "p", "regex": "a+", "max_tokens": 5, "system": None},
        {"prompt": "p", "schema": True, "conformance": "spec"},
        {"prompt": "p", "json_object": True},
        {"prompt": "p", "stop": ["x"], "n": 2},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert maskloop("batch", str(file)).code == 0
    first, second, third, fourth, fifth = scripted.seen
    assert (first.messages[0]["content"], first.constraint.whitespace, first.sampling.seed) == ("m", "flexible", 3)
    assert (second.constraint.kind, second.sampling.max_tokens) == ("regex", 5)
    assert (third.constraint.source, third.constraint.conformance) == ("true", "spec")
    assert fourth.constraint.kind == "json_object"
    assert (fifth.constraint, fifth.sampling.stop, fifth.sampling.n) == (None, ("x",), 2)


@pytest.mark.parametrize(("options", "rows"), [((), 32), (("--max-batch", "4"), 4)])
def test_there_are_rows_for_all_particles_unless_others_are_asked_for(
    maskloop: Run, scripted: ScriptedEngine, tmp_path: Path, options: tuple[str, ...], rows: int
) -> None:
    file = tmp_path / "in.jsonl"
    smc = {"prompt": "p", "regex": "a+", "method": "smc"}
    file.write_text("".join(json.dumps(line) + "\n" for line in ({"prompt": "q"}, smc, {**smc, "particles": 2})))
    assert maskloop("batch", str(file), *options).code == 0
    assert [request.sampling.method for request in scripted.seen] == ["mask", "smc", "smc"]
    assert scripted.config.max_batch == rows
    assert maskloop("generate", "--prompt", "p", "--regex", "a+", "--method", "smc", *options).code == 0
    assert scripted.config.max_batch == rows


@pytest.mark.parametrize(("line", "kind", "param"), [
    ({"prompt": "p", "temprature": 1}, "UnknownOption", "temprature"),
    ({"prompt": "p", "schema": {}, "regex": "a"}, "RequestError", "regex"),
    ({"prompt": "p", "regex": "a", "conformance": "spec"}, "RequestError", "conformance"),
    ({"prompt": "p", "whitespace": "compact"}, "RequestError", "whitespace"),
    ({"prompt": ""}, "RequestError", "prompt"),
    ({"prompt": "p", "messages": [{"role": "user", "content": "x"}]}, "RequestError", "prompt"),
    ({"messages": "x"}, "RequestError", "messages"),
    ({"messages": [{"content": "x"}]}, "RequestError", "messages"),
    ({"prompt": "p", "max_tokens": 0}, "RequestError", "max_tokens"),
    ({"prompt": "p", "max_tokens": True}, "RequestError", "max_tokens"),
    ({"prompt": "p", "schema": 7}, "SchemaInvalid", "schema"),
    ({"prompt": "p", "choice": []}, "RequestError", "choice"),
    ({"prompt": "a\ud800"}, "RequestError", "prompt"),
])  # fmt: skip
def test_a_bad_line_fails_alone(
    maskloop: Run, scripted: ScriptedEngine, tmp_path: Path, line: dict[str, Any], kind: str, param: str
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps({"id": "bad", **line}) + "\n" + THREE)
    ran = maskloop("batch", str(file))
    found = results(ran.out)
    assert ran.code == 1
    assert (found["bad"]["status"], found["bad"]["error"]["type"], found["bad"]["error"]["param"]) == (
        "error",
        kind,
        param,
    )
    assert [found[name]["status"] for name in ("a", "b", "line-4")] == ["complete"] * 3
    assert "1 of 4 failed: bad" in ran.err


@pytest.mark.parametrize("error", [
    QueueFull("full"), {"late": SchemaRefused("no")}, {"late": EngineFailure("broke")}, {"status": "invalid"},
])  # fmt: skip
def test_what_fails_in_the_engine_fails_alone_too(
    maskloop: Run, scripted: ScriptedEngine, requests: Path, error: Any
) -> None:
    scripted.answers["q"] = error
    ran = maskloop("batch", str(requests))
    found = results(ran.out)
    assert ran.code == 1
    assert found["b"]["status"] in ("error", "invalid")
    assert found["a"]["status"] == found["line-3"]["status"] == "complete"


def test_an_interrupted_run_goes_on_where_it_stopped(
    maskloop: Run, scripted: ScriptedEngine, requests: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    scripted.answers["r"] = KeyboardInterrupt()
    assert maskloop("batch", str(requests), "--out", str(out)).code == 130
    whole = out.read_text()
    assert whole == "" or whole.endswith("\n")
    scripted.answers.clear()
    scripted.seen.clear()
    done = set(results(whole))
    assert maskloop("batch", str(requests), "--out", str(out)).code == 0
    assert {request.id for request in scripted.seen} == {"a", "b", "line-3"} - done
    assert sorted(results(out.read_text())) == ["a", "b", "line-3"]
    assert out.read_text().startswith(whole)


def test_a_torn_last_line_is_cut_off_and_its_request_runs_again(
    maskloop: Run, scripted: ScriptedEngine, requests: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    done = json.dumps(Result(id="a", status="complete", finish_reason="stop").to_dict()) + "\n"
    out.write_text(done + '{"id": "b", "status": "comp')
    ran = maskloop("batch", str(requests), "--out", str(out))
    assert (ran.code, ran.out) == (0, "")
    assert [request.id for request in scripted.seen] == ["b", "line-3"]
    assert out.read_text().startswith(done)
    assert sorted(results(out.read_text())) == ["a", "b", "line-3"]


def test_a_failure_of_an_earlier_run_still_counts(
    maskloop: Run, scripted: ScriptedEngine, requests: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    scripted.answers["q"] = UnknownOption("no")
    assert maskloop("batch", str(requests), "--out", str(out)).code == 1
    scripted.seen.clear()
    ran = maskloop("batch", str(requests), "--out", str(out))
    assert (ran.code, scripted.seen) == (1, [])
    assert "1 of 3 failed: b" in ran.err


@pytest.mark.parametrize("text", [THREE, "a diary", '{"id": "a", "prompt": "x"}', '{"status": "complete", "id": "r0"}'])
def test_a_file_that_holds_no_results_is_not_touched(
    maskloop: Run, scripted: ScriptedEngine, requests: Path, tmp_path: Path, text: str
) -> None:
    out = tmp_path / "out"
    out.write_text(text)
    ran = maskloop("batch", str(requests), "--out", str(out))
    assert (ran.code, scripted.seen, out.read_text()) == (2, [], text)
    assert "not a result of an earlier run" in ran.error


def test_retry_failed_runs_failures_again_and_puts_their_results_into_the_old_places(
    maskloop: Run, scripted: ScriptedEngine, requests: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    scripted.answers["q"] = SchemaRefused("no such thing")
    ran = maskloop("batch", str(requests), "--out", str(out))
    assert "b: error (no such thing)" in ran.err
    assert ran.err.splitlines()[-1] == "maskloop: 1 of 3 failed: b; --retry-failed runs them again"
    before = [json.loads(line)["id"] for line in out.read_text().splitlines()]

    assert maskloop("batch", str(requests), "--out", str(out)).code == 1
    scripted.answers.clear()
    scripted.seen.clear()
    assert maskloop("batch", str(requests), "--out", str(out), "--retry-failed").code == 0
    assert [request.id for request in scripted.seen] == ["b"]
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == before
    assert results(out.read_text())["b"]["status"] == "complete"
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out.jsonl"]


def test_a_retry_that_is_interrupted_loses_neither_result(
    maskloop: Run, scripted: ScriptedEngine, requests: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    line = {"id": "b", "status": "complete"}
    out.write_text("".join(json.dumps(each) + "\n" for each in ({"id": "b", "status": "error"}, line)))
    assert maskloop("batch", str(requests), "--out", str(out)).code == 0
    assert [request.id for request in scripted.seen] == ["a", "line-3"]
    assert json.loads(out.read_text().splitlines()[0]) == line
