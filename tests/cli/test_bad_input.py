"""A user's mistake is one line on stderr that names what and where, exit code 2, nothing on stdout, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, ScriptedEngine

PROMPT = ("--prompt", "hello")


@pytest.mark.parametrize(("args", "told"), [
    (("generate", "--schema", "lift_ir"), "exactly one of --prompt"),
    (("generate", "--schema", "lift_ir", "-", "--prompt", "x"), "exactly one of --prompt"),
    (("generate", "--schema", "lift_ir", "--prompt", "x", "--prompt-file", "y"), "--prompt-file"),
    (("generate", "--schema", "nowhere.json", *PROMPT), "nowhere.json: No such file"),
    (("generate", "--schema", ".", *PROMPT), ".: Is a directory"),
    (("generate", "--schema", "lift_ir", "--prompt", ""), "prompt is empty"),
    (("generate", "--schema", "lift_ir", *PROMPT, "--max-tokens", "0"), "max_tokens must be at least 1"),
    (("generate", "--schema", "lift_ir", *PROMPT, "--max-tokens", "many"), "--max-tokens: invalid int value: 'many'"),
    (("generate", "--schema", "lift_ir", *PROMPT, "--temperature", "-1"), "temperature must be in [0, 100]"),
    (("generate", "--schema", "lift_ir", *PROMPT, "--temperature", "nan"), "temperature must be a finite number"),
    (("generate", "--schema", "lift_ir", *PROMPT, "--top-p", "0"), "top_p must be in (0, 1]"),
    (("generate", "--schema", "lift_ir", *PROMPT, "--quantization", "q3"), "invalid choice: 'q3'"),
    (("generate", "--schema", "lift_ir", *PROMPT, "--temprature", "1"), "unrecognized arguments: --temprature"),
    (("generate", "--schema", "lift_ir", *PROMPT, "--max-tok", "1"), "unrecognized arguments: --max-tok"),
    (("generate", "--schema", "lift_ir", *PROMPT, "--stop", "x"), "stop acts in free text"),
    (("generate", "--schema", "lift_ir", "--regex", "a", *PROMPT), "not allowed with argument"),
    (("generate", "--regex", "a", *PROMPT, "--require-enforced"), "require_enforced does not apply to regex"),
    (("generate", *PROMPT, "--schema-in-prompt"), "schema_in_prompt needs a JSON Schema"),
    (("generate", *PROMPT, "--template", "raw", "--system", "s"), "template 'raw' sends the prompt untouched"),
    (("generate", *PROMPT, "--model", "no/such/model"), "model 'no/such/model' is not"),
    (("generate", *PROMPT, "--model", "missing.gguf"), "there is no file missing.gguf"),
    (("generate", *PROMPT, "--max-batch", "0"), "max_batch must be at least 1"),
    (("generate", *PROMPT, "--model", "./missing"), "model './missing' is not"),
    (("generate", *PROMPT, "--schema", "lift_ri"), "no file and no bundled schema 'lift_ri'; bundled are: go_"),
    (("generate", *PROMPT, "--cache-dir", "/dev/null"), "cache folder /dev/null: Not a directory; name another with"),
    (("models", "--cache-dir", "/dev/null"), "cache folder /dev/null: Not a directory"),
    (("cache", "ls", "--cache-dir", "/dev/null"), "cache folder /dev/null: Not a directory"),
    (("check", "lift_ir", "--cache-dir", "/dev/null/x"), "cache folder /dev/null/x: Not a directory"),
    (("batch", "nowhere.jsonl"), "nowhere.jsonl: No such file"),
    (("batch", "nowhere.jsonl", "--retry-failed"), "--retry-failed needs --out"),
    (("check", "nowhere.json"), "nowhere.json: No such file"),
    (("accepts",), "either SCHEMA INSTANCE... or --cases"),
    (("accepts", "lift_ir"), "at least one INSTANCE"),
    (("accepts", "lift_ir", "{}", "--cases", "x.jsonl"), "either SCHEMA INSTANCE... or --cases"),
    (("accepts", "lift_ir", "{oops"), "neither a file nor JSON"),
    (("accepts", "lift_ir", "[NaN]"), "NaN is not a JSON value"),
    (("quantize", "smollm2-135m", "--out", "x"), "--to"),
    (("serve", "--host", "0.0.0.0"), "--host 0.0.0.0 is open to strangers"),
    (("serve", "--model", "no/such/model"), "model 'no/such/model' is not"),
    (("serve", "--port", "99999"), "--port must be between 0 and 65535"),
    (("cache", "warm"), "warm needs at least one SCHEMA"),
    (("cache", "ls", "lift_ir"), "ls and clear take none"),
    (("usage", "--since", "yesterday", "-"), "--since 'yesterday'"),
    (("trace", "view", "nowhere.jsonl", "-o", "x.html"), "nowhere.jsonl"),
    (("frobnicate",), "there is no command 'frobnicate'"),
    (("--frobnicate",), "unrecognized arguments: --frobnicate"),
])  # fmt: skip
def test_one_line_and_exit_2(maskloop: Run, args: tuple[str, ...], told: str) -> None:
    ran = maskloop(*args)
    assert ran.code == 2
    assert told in ran.error


@pytest.mark.parametrize(("content", "told"), [
    (b'{"type":', "bad.json: not JSON: Expecting value (line 1, column 9)"),
    (b'{"type": "object"\n"x"}', "(line 2, column 1)"),
    (b'{"minimum": NaN}', "NaN is not a JSON value"),
    (b"[1]", "a schema is a JSON object or a boolean, not an array"),
    (b'"object"', "not a string"),
    (b"\xff\xfe", "byte 0 is not UTF-8"),
    (b'{"properties": {"a": {"type": "strin"}}}', "bad.json: not a valid JSON Schema"),
    (b'{"properties": {"a": {"type": "strin"}}}', "(at /properties/a/type)"),
    (b"", "Expecting value"),
    (b"[" * 100_000, "nested too deeply"),
])  # fmt: skip
def test_an_unreadable_schema_names_file_and_place(maskloop: Run, tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    ran = maskloop("generate", "--schema", str(file), *PROMPT)
    assert ran.code == 2
    assert "bad.json" in ran.error
    assert told in ran.error


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
