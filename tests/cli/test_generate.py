"""`generate`: what goes to stdout and what does not, options that reach the engine, traces, failures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import BudgetTooSmall, EngineFailure, SchemaRefused
from tests.cli.conftest import Run, ScriptedEngine


def test_the_document_alone_goes_to_stdout(maskloop: Run, scripted: ScriptedEngine) -> None:
    ran = maskloop("generate", "--schema", "lift_ir", "--prompt", "p")
    assert (ran.code, ran.out) == (0, '{"a":1}\n')
    assert "10.0 tokens/s" in ran.err
    assert "6.0 ms to fill, 3.0 ms of waiting and applying = 1.00 % of that time" in ran.err
    assert scripted.closed


def test_a_text_without_a_budget_is_told_to_be_one(maskloop: Run, scripted: ScriptedEngine) -> None:
    assert "no --max-tokens" in maskloop("generate", "--prompt", "p").err
    assert "no --max-tokens" not in maskloop("generate", "--prompt", "p", "--max-tokens", "5").err


def test_a_prompt_over_the_limit_is_refused_before_a_model_is_loaded(
    maskloop: Run, scripted: ScriptedEngine, tmp_path: Path
) -> None:
    file = tmp_path / "p.txt"
    file.write_text("x" * (scripted.config.limits.prompt_bytes + 1))
    ran = maskloop("generate", "--prompt-file", str(file))
    assert (ran.code, ran.error) == (2, "maskloop: prompt has 4194305 bytes, over the limit of 4194304")


def test_quiet_leaves_stderr_empty(maskloop: Run, scripted: ScriptedEngine) -> None:
    assert maskloop("generate", "--prompt", "p", "--quiet").err == ""


def test_report_is_the_whole_result_on_one_line(maskloop: Run, scripted: ScriptedEngine) -> None:
    ran = maskloop("generate", "--prompt", "p", "--report")
    report = json.loads(ran.out)
    assert ran.out.count("\n") == 1
    assert (report["status"], report["text"], report["usage"]["completion_tokens"]) == ("complete", '{"a":1}', 3)


@pytest.mark.parametrize("source", ["--prompt", "--prompt-file", "-"])
def test_the_prompt_comes_from_an_argument_a_file_or_stdin(
    maskloop: Run, scripted: ScriptedEngine, tmp_path: Path, source: str
) -> None:
    file = tmp_path / "p.txt"
    file.write_text("grüße\n")
    args = {"--prompt": ["--prompt", "grüße\n"], "--prompt-file": ["--prompt-file", str(file)], "-": ["-"]}[source]
    assert maskloop("generate", *args, stdin="grüße\n").code == 0
    assert scripted.seen[0].prompt == "grüße\n"


def test_options_reach_request_and_config(maskloop: Run, scripted: ScriptedEngine) -> None:
    ran = maskloop(
        "generate", "--prompt", "p", "--schema", "lift_ir", "--system", "s", "--schema-in-prompt", "--max-tokens", "9",
        "--temperature", "0", "--seed", "5", "--top-k", "3", "--deadline", "2.5", "--whitespace", "flexible",
        "--conformance", "spec", "--require-enforced", "--max-batch", "2", "--threads", "1",
    )  # fmt: skip
    request = scripted.seen[0]
    assert ran.code == 0
    assert (request.system, request.schema_in_prompt, request.deadline_s) == ("s", True, 2.5)
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.seed, sampling.top_k) == (9, 0.0, 5, 3)
    constraint = request.constraint
    assert constraint is not None
    assert (constraint.whitespace, constraint.conformance, constraint.require_enforced) == ("flexible", "spec", True)
    assert list(json.loads(constraint.source)["properties"])[:2] == ["intent", "signature"]
    assert (scripted.config.max_batch, scripted.config.threads) == (2, 1)


@pytest.mark.parametrize(("args", "kind"), [
    (("--regex", "a+"), "regex"), (("--choice", "a", "--choice", "b"), "choice"), (("--json-object",), "json_object"),
])  # fmt: skip
def test_other_constraints(maskloop: Run, scripted: ScriptedEngine, args: tuple[str, ...], kind: str) -> None:
    assert maskloop("generate", "--prompt", "p", *args).code == 0
    constraint = scripted.seen[0].constraint
    assert constraint is not None
    assert constraint.kind == kind


def test_all_samples_are_printed_one_a_line(maskloop: Run, scripted: ScriptedEngine) -> None:
    from engine.request import Result

    two = tuple(Result(id="s", status="complete", finish_reason="stop", text=t) for t in ("1", "2"))
    scripted.answers["p"] = {"samples": two}
    assert maskloop("generate", "--prompt", "p", "--n", "2").out == "1\n2\n"


@pytest.mark.parametrize("status", ["invalid", "dead_end", "timeout", "cancelled", "error"])
@pytest.mark.parametrize("report", [(), ("--report",)])
def test_a_failure_prints_nothing_but_one_line_on_stderr(
    maskloop: Run, scripted: ScriptedEngine, status: str, report: tuple[str, ...]
) -> None:
    scripted.answers["p"] = {"status": status, "valid": False, "error": {"message": "too\nbad", "pointer": "/a"}}
    ran = maskloop("generate", "--prompt", "p", "--quiet", *report)
    assert ran.code == 1
    assert ran.error == f"maskloop: {status}: too bad (at /a)"


@pytest.mark.parametrize("status", ["closed", "length"])
def test_the_other_good_endings_print_their_text(maskloop: Run, scripted: ScriptedEngine, status: str) -> None:
    scripted.answers["p"] = {"status": status, "text": "t"}
    assert maskloop("generate", "--prompt", "p").out == "t\n"


@pytest.mark.parametrize(("error", "code"), [
    (BudgetTooSmall("3 tokens are too few"), 2), (EngineFailure("the worker died"), 1),
])  # fmt: skip
def test_errors_of_the_request_cost_2_and_errors_of_ours_1(
    maskloop: Run, scripted: ScriptedEngine, error: Exception, code: int
) -> None:
    scripted.answers["p"] = error
    ran = maskloop("generate", "--prompt", "p", "--quiet")
    assert (ran.code, ran.error) == (code, f"maskloop: {error}")


def test_an_error_that_comes_with_compilation_is_told_with_its_pointer(maskloop: Run, scripted: ScriptedEngine) -> None:
    scripted.answers["p"] = {"late": SchemaRefused("nothing satisfies it", pointer="/allOf/1")}
    ran = maskloop("generate", "--prompt", "p", "--quiet")
    assert (ran.code, ran.error) == (2, "maskloop: nothing satisfies it (at /allOf/1)")


def test_ctrl_c_ends_with_130_and_closes_the_engine(maskloop: Run, scripted: ScriptedEngine, tmp_path: Path) -> None:
    scripted.answers["p"] = KeyboardInterrupt()
    ran = maskloop("generate", "--prompt", "p", "--quiet", "--trace", str(tmp_path / "t.jsonl"))
    assert (ran.code, ran.error) == (130, "maskloop: interrupted")
    assert scripted.closed
    assert list(tmp_path.iterdir()) == []


def test_a_trace_holds_every_step_and_can_be_viewed(maskloop: Run, scripted: ScriptedEngine, tmp_path: Path) -> None:
    trace, page = tmp_path / "t.jsonl", tmp_path / "t.html"
    assert maskloop("generate", "--prompt", "p", "--trace", str(trace)).code == 0
    kinds = [json.loads(line).get("kind", "header") for line in trace.read_text().splitlines()]
    assert sorted(kinds) == ["header", "request", "result", "step", "step", "step"]
    assert maskloop("trace", "view", str(trace), "-o", str(page)).code == 0
    assert "<html" in page.read_text()
    assert maskloop("trace", "chrome", str(trace), "-o", str(tmp_path / "c.json")).code == 0
    assert json.loads((tmp_path / "c.json").read_text())["traceEvents"]
    for action, beside in (("view", f"{trace}.html"), ("chrome", f"{trace}.chrome.json")):
        assert maskloop("trace", action, str(trace)).out == f"{beside}\n"
        assert Path(beside).stat().st_size > 0


def test_a_recorded_request_is_asked_again_and_compared(
    maskloop: Run, scripted: ScriptedEngine, tmp_path: Path
) -> None:
    schema, trace = tmp_path / "s.json", str(tmp_path / "t.jsonl")
    schema.write_text('{"type": "object", "properties": {"a": {"type": "integer"}}}')
    scripted.answers["p"] = {"seed": 17}
    asked = ("--prompt", "p", "--schema", str(schema), "--max-tokens", "9", "--temperature", "0.5", "--system", "short")
    assert maskloop("generate", *asked, "--trace", trace).code == 0
    again = maskloop("trace", "replay", trace)
    assert (again.code, again.out) == (0, "identical: 7 characters, complete\n")
    first, second = scripted.seen
    assert replace(second, id=first.id, sampling=replace(second.sampling, seed=None)) == first
    assert (second.sampling.seed, scripted.config.model) == (17, "scripted")
    scripted.answers["p"] = {"text": '{"a":2}'}
    again = maskloop("trace", "replay", trace, "--model", "other")
    assert (again.code, scripted.config.model) == (1, "other")
    assert again.out == "differs at character 5: '1}' became '2}'\n"


def test_what_cannot_be_replayed_is_refused(maskloop: Run, scripted: ScriptedEngine, tmp_path: Path) -> None:
    trace = str(tmp_path / "t.jsonl")
    maskloop("generate", "--prompt", "p", "--trace", trace, "--trace-text", "off")
    assert "--trace-text off" in maskloop("trace", "replay", trace).error
    assert "--out" in maskloop("trace", "replay", trace, "-o", "x.html").error


def test_a_trace_without_text_holds_none(maskloop: Run, scripted: ScriptedEngine, tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    maskloop("generate", "--prompt", "p", "--trace", str(trace), "--trace-text", "off")
    steps = [line for line in map(json.loads, trace.read_text().splitlines()) if line.get("kind") == "step"]
    assert len(steps) == 3
    assert not any(step.keys() & {"text", "token_id"} for step in steps)
