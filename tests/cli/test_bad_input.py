"""What a command does before it refuses: files are read whole, and nothing is computed. See tests/mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, ScriptedEngine

PROMPT = ("--prompt", "hello")


@pytest.mark.parametrize(("lines", "told"), [
    ("", "holds no request"),
    ('{"prompt": "a"}\n{oops}', "line 2: not JSON"),
    ("[1]", "line 1: a request is a JSON object"),
    ('{"id": 3, "prompt": "a"}', "line 1: id must be a non-empty string"),
    ('{"id": "a", "prompt": "x"}\n\n{"id": "a", "prompt": "y"}', "lines 1 and 3 have the same id 'a'"),
])  # fmt: skip
def test_a_batch_file_is_read_whole_before_anything_runs(
    maskloop: Run, scripted: ScriptedEngine, tmp_path: Path, lines: str, told: str
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(lines)
    ran = maskloop("batch", str(file))
    assert (ran.code, scripted.seen) == (2, [])
    assert told in ran.error


@pytest.mark.parametrize("case", ['{"schema": {}}', '{"schema": {}, "tests": {}}', '{"tests": []}', "[]"])
def test_a_malformed_case_names_its_line(maskloop: Run, tmp_path: Path, case: str) -> None:
    file = tmp_path / "cases.jsonl"
    file.write_text('{"schema": {}, "tests": []}\n' + case)
    ran = maskloop("accepts", "--cases", str(file))
    assert ran.code == 2
    assert "line 2: a case is" in ran.error


def test_a_prompt_that_is_not_utf8_says_which_byte(maskloop: Run, tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"abc\xff")
    assert "prompt.txt: byte 3 is not UTF-8" in maskloop("generate", "--prompt-file", str(file)).error


def test_a_trace_path_that_cannot_be_written_costs_no_model(maskloop: Run, scripted: ScriptedEngine) -> None:
    ran = maskloop("generate", *PROMPT, "--trace", "/no/such/folder/t.jsonl")
    assert (ran.code, scripted.seen) == (2, [])
    assert "--trace /no/such/folder/t.jsonl: No such file" in ran.error


@pytest.mark.parametrize(("option", "text", "told"), [
    ("--schema", '{"pattern": "(a"}', "c.txt: not a valid JSON Schema"),
    ("--ebnf", 'root ::= "a', "c.txt: not an EBNF grammar"),
    ("--lark", 'start: %json {"type": "strin"}', "c.txt: not a valid JSON Schema"),
    ("--lark", "start: /(a/", "c.txt: not a Lark grammar"),
    ("--lark", "start: /a(?=b)/", "lookaround"),
    ("--structural-tag", '{"format": {"type": "tug"}}', "c.txt: not a structural tag"),
    ("--regex", None, "not an ECMA-262 regular expression"),
])  # fmt: skip
def test_a_broken_constraint_costs_no_model(
    maskloop: Run, scripted: ScriptedEngine, tmp_path: Path, option: str, text: str | None, told: str
) -> None:
    file = tmp_path / "c.txt"
    file.write_text(text or "")
    ran = maskloop("generate", *PROMPT, option, "(a" if text is None else str(file))
    assert (ran.code, scripted.seen) == (2, [])
    assert told in ran.error


def test_a_byte_order_mark_is_not_part_of_a_file(maskloop: Run, scripted: ScriptedEngine, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "null"}', encoding="utf-8-sig")
    assert maskloop("generate", "--schema", str(schema), *PROMPT).code == 0
    assert scripted.seen[0].constraint is not None
    assert scripted.seen[0].constraint.source == '{"type":"null"}'


def test_a_hub_out_of_reach_is_told_once_and_at_once(maskloop: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    ran = maskloop("generate", *PROMPT, "--model", "nobody/nothing")
    assert ran.code == 2
    assert "is not in this machine's Hugging Face cache, and http://127.0.0.1:9 cannot be reached" in ran.error
