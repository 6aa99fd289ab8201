"""`check`, `accepts` and `cache warm` over the embedded model's vocabulary: no weights, the real grammar side."""

from __future__ import annotations

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from engine.cli.sessions import grammar_session
from engine.config import default_cache_dir
from tests.cli.conftest import Run

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
NAMES = sorted(path.stem for path in SCHEMAS.glob("*.json"))


read_vocabulary = grammar_session.load_vocabulary


@cache
def embedded() -> Any:
    return read_vocabulary(None, default_cache_dir())


@pytest.fixture(autouse=True)
def one_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded tokenizer is read once for this file; a named one is read as ever."""

    def load(name: str | None, cache_dir: Path) -> Any:
        return embedded() if name is None else read_vocabulary(name, cache_dir)

    monkeypatch.setattr(grammar_session, "load_vocabulary", load)


def documents(name: str, kind: str) -> list[Any]:
    return [json.loads(line) for line in (SCHEMAS / f"{name}.{kind}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("packed", [False, True])
def test_cases_in_bulk_accept_the_valid_and_nothing_else(maskloop: Run, tmp_path: Path, packed: bool) -> None:
    cases = []
    names = NAMES[:2] if packed else NAMES
    for name in names:
        tests = [
            {"data": data, "valid": kind == "valid"} for kind in ("valid", "invalid") for data in documents(name, kind)
        ]
        schema = json.loads((SCHEMAS / f"{name}.json").read_text())
        cases.append({"name": name, "schema": schema, "tests": tests})
    text = "".join(json.dumps(case) + "\n" for case in cases).encode()
    file = tmp_path / ("cases.jsonl.xz" if packed else "cases.jsonl")
    file.write_bytes(lzma.compress(text) if packed else text)
    ran = maskloop("accepts", "--cases", str(file), "--conformance", "spec" if packed else "tight")
    found = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 0
    assert [row["name"] for row in found] == names
    for row, case in zip(found, cases, strict=True):
        assert row.keys() == {"name", "supported", "reason", "verdicts", "compile_ms", "accepted"}
        wrong = [
            t for t, accepted in zip(case["tests"], row["accepted"], strict=True) if accepted not in (t["valid"], None)
        ]
        assert wrong == []
        assert sum(accepted is True for accepted in row["accepted"]) >= 7, "a vocabulary that lacks bytes leaves most"


def test_a_refused_case_is_a_reason_and_the_others_go_on(maskloop: Run, tmp_path: Path) -> None:
    cases = [
        {"name": "remote", "schema": {"$ref": "https://example.org/x.json"}, "tests": [{"data": 1, "valid": True}]},
        {"name": "broken", "schema": {"type": "strin"}, "tests": [{"data": 1}, {"data": 2}]},
        {"name": "number", "schema": 7, "tests": [{"data": 1}]},
        {"name": "good", "schema": {"const": 1}, "tests": [{"data": 1}, {"data": 2}]},
    ]
    file = tmp_path / "cases.jsonl"
    file.write_text("".join(json.dumps(case) + "\n" for case in cases))
    rows = {row["name"]: row for row in map(json.loads, maskloop("accepts", "--cases", str(file)).out.splitlines())}
    for name, tests in (("remote", 1), ("broken", 2), ("number", 1)):
        assert (rows[name]["supported"], rows[name]["accepted"]) == (False, [None] * tests)
        assert rows[name]["reason"]
    assert (rows["good"]["supported"], rows["good"]["accepted"]) == (True, [True, False])


def test_accepts_one_schema(maskloop: Run, tmp_path: Path) -> None:
    schema = tmp_path / "s.json"
    schema.write_text('{"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}')
    good = tmp_path / "good.json"
    good.write_text('{"a": 1,\n "b": [true]}')
    ran = maskloop("accepts", str(schema), str(good), '{"b":1}', '{"b":1,"a":2}')
    assert ran.code == 1
    stop = "stops at character 2, after '{\"', before"
    assert ran.out.splitlines() == [
        f"accepted: {good}",
        f"""rejected: {{"b":1}}: {stop} 'b":1}}'""",
        f"""rejected: {{"b":1,"a":2}}: {stop} 'b":1,"a":2}}'""",
    ]
    spec = maskloop("accepts", str(schema), '{"b":1,"a":2}', '{"a":1,"z":0}', "--conformance", "spec", "--json")
    found = json.loads(spec.out)
    assert (spec.code, found["accepted"], found["stops_at"]) == (0, [True, True], [None, None])


@pytest.mark.parametrize(("text", "stops_at"), [
    ('{"a":"größe","b":1}', 14),
    ('{"a":"größe"}', 12),
    ('{"a":"größer"}', 11),
    ('{"a":"größe","k":-12.5}', None),
    ('{"a":"größe","k":-125}', 20),
    ("[]", 0),
])  # fmt: skip
def test_a_rejected_document_is_told_the_character_where_it_stops(
    maskloop: Run, tmp_path: Path, text: str, stops_at: int | None
) -> None:
    schema = tmp_path / "s.json"
    number = {"type": "number", "multipleOf": 0.5, "minimum": -100}
    schema.write_text(json.dumps({"properties": {"a": {"const": "größe"}, "k": number}, "required": ["a", "k"]}))
    ran = maskloop("accepts", str(schema), text, "--json")
    assert json.loads(ran.out)["stops_at"] == [stops_at]


def test_what_lies_far_from_the_place_is_left_out(maskloop: Run, tmp_path: Path) -> None:
    schema = tmp_path / "s.json"
    schema.write_text('{"type": "string", "maxLength": 99}')
    ran = maskloop("accepts", str(schema), f'"{"0123456789" * 20}"')
    assert ran.out.rstrip().endswith(
        ": stops at character 100, after ...'901234567890123456789012345678', before '901234567890123456789012345678'"
    )


def test_what_this_vocabulary_cannot_write_is_neither_accepted_nor_rejected(maskloop: Run, tmp_path: Path) -> None:
    schema = tmp_path / "s.json"
    schema.write_text('{"type": "string"}')
    ran = maskloop("accepts", str(schema), '"\\ud800"', "1e400", '"plain"', "--json")
    assert (ran.code, json.loads(ran.out)["accepted"]) == (1, [None, None, True])


def test_a_case_that_breaks_the_engine_is_a_reason_too(
    maskloop: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.grammar.service import GrammarService

    compile_it = GrammarService.compile

    def breaks(self: GrammarService, constraint: Any) -> Any:
        if "boom" in constraint.source:
            raise AttributeError("a bug")
        return compile_it(self, constraint)

    monkeypatch.setattr(GrammarService, "compile", breaks)
    file = tmp_path / "cases.jsonl"
    file.write_text(
        '{"schema": {"const": "boom"}, "tests": [{"data": 1}]}\n{"schema": {"const": 1}, "tests": [{"data": 1}]}'
    )
    first, second = map(json.loads, maskloop("accepts", "--cases", str(file)).out.splitlines())
    assert (first["supported"], first["accepted"]) == (False, [None])
    assert "a bug" in first["reason"]
    assert second["accepted"] == [True]


def test_check_names_every_keyword_and_the_shortest_document(maskloop: Run) -> None:
    found = json.loads(maskloop("check", "lift_ir", "--json").out)
    assert found.keys() >= {"schema_hash", "supported", "verdicts", "min_bytes", "min_tokens", "min_tokens_exact"}
    shortest = '{"intent":{"summary":"xxxxxxxxxx"},"signature":{"name":"x","parameters":[]}}'
    assert (found["supported"], found["min_bytes"], found["min_tokens_exact"]) == (True, len(shortest), True)
    assert {row["verdict"] for row in found["verdicts"]} <= {"enforced", "narrowed"}
    at = {(row["pointer"], row["keyword"]): row["verdict"] for row in found["verdicts"]}
    assert at["/properties/intent/properties/summary", "minLength"] == "enforced"


def test_check_prints_a_table_and_its_counts(maskloop: Run, tmp_path: Path) -> None:
    schema = tmp_path / "s.json"
    schema.write_text('{"uniqueItems": true, "minItems": 2, "contains": {"minimum": 0}, "type": "array"}')
    ran = maskloop("check", str(schema))
    assert ran.code == 0
    assert ran.out.splitlines()[0].split()[:3] == ["checked", "uniqueItems", "(root)"]
    assert "1 checked" in ran.out
    assert "at least" in ran.out


@pytest.mark.parametrize("schema", [
    {"$ref": "https://example.org/x.json"},
    {"allOf": [{"type": "string"}, {"type": "integer"}]},
    {"type": "object", "required": ["a"], "properties": {"a": False}},
])  # fmt: skip
def test_a_refused_schema_is_exit_code_1(maskloop: Run, tmp_path: Path, schema: dict[str, Any]) -> None:
    file = tmp_path / "s.json"
    file.write_text(json.dumps(schema))
    ran = maskloop("check", str(file), "--json")
    found = json.loads(ran.out)
    assert (ran.code, found["supported"]) == (1, False)
    assert found["verdicts"][-1]["verdict"] == "refused"
    assert maskloop("check", str(file)).out.splitlines()[-1].startswith("refused: ")


def test_check_reads_a_schema_as_the_draft_it_is_told(maskloop: Run, tmp_path: Path) -> None:
    file = tmp_path / "tuple.json"
    file.write_text('{"type": "array", "items": [{"type": "integer"}]}')
    ran = maskloop("check", str(file))
    assert ran.code == 2
    assert "draft='2019-09'" in ran.err
    assert maskloop("check", str(file), "--draft", "7").code == 0
    assert maskloop("check", str(file), "--draft", "2019-09").code == 0
    assert maskloop("check", str(file), "--draft", "5").code == 2


def test_contents_are_held_unless_somebody_says_so(maskloop: Run, tmp_path: Path) -> None:
    file = tmp_path / "encoded.json"
    file.write_text('{"type": "string", "contentEncoding": "base64"}')
    assert "contentEncoding" in maskloop("check", str(file)).out
    assert "contentEncoding" not in maskloop("check", str(file), "--no-contents").out


def test_require_enforced_refuses_what_is_only_checked(maskloop: Run, tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text('{"type": "array", "uniqueItems": true, "minItems": 2, "contains": {"minimum": 0}}')
    assert maskloop("check", str(file)).code == 0
    assert maskloop("check", str(file), "--require-enforced").code == 1


def test_what_is_no_schema_at_all_is_wrong_usage(maskloop: Run, tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text('{"type": "strin"}')
    ran = maskloop("check", str(file))
    assert ran.code == 2
    assert "strin" in ran.error


def test_a_tokenizer_that_is_not_there_is_named(maskloop: Run) -> None:
    ran = maskloop("check", "lift_ir", "--tokenizer", "nowhere.json.xz")
    assert ran.code == 2
    assert "nowhere.json.xz" in ran.error


def test_what_is_warmed_is_listed_and_cleared_and_nothing_else_is(maskloop: Run, tmp_path: Path) -> None:
    here = ("--cache-dir", str(tmp_path))
    model, stranger = tmp_path / "models" / "m-1" / "complete", tmp_path / "notes.txt"
    model.parent.mkdir(parents=True)
    model.write_text("")
    stranger.write_text("mine")
    warmed = maskloop("cache", "warm", "python_generation", "go_generation", *here)
    assert [line.split(":")[0] for line in warmed.out.splitlines()] == ["python_generation", "go_generation"]
    rows = [json.loads(line) for line in maskloop("cache", "ls", "--json", *here).out.splitlines()]
    assert rows[-1] | {"age_s": 0} == {"type": "model", "key": "m-1", "nbytes": 0, "age_s": 0}
    assert {row["type"] for row in rows[:-1]} <= {"grammar"}
    assert f"{len(rows)} entries" in maskloop("cache", "ls", *here).out
    assert maskloop("cache", "clear", *here).code == 0
    assert (list((tmp_path / "grammars").glob("*")), model.exists(), stranger.exists()) == ([], True, True)
    assert "1 converted models" in maskloop("cache", "clear", "--models", *here).out
    assert (model.exists(), stranger.exists()) == (False, True)


def test_an_empty_cache_is_no_error(maskloop: Run, tmp_path: Path) -> None:
    here = ("--cache-dir", str(tmp_path / "none"))
    assert "0 entries" in maskloop("cache", "ls", *here).out
    assert "removed 0" in maskloop("cache", "clear", *here).out


def test_check_takes_every_kind_of_constraint(maskloop: Run, tmp_path: Path) -> None:
    grammar, tag = tmp_path / "g.lark", tmp_path / "tag.json"
    grammar.write_text(
        'start: "<" %json {"type": "array", "uniqueItems": true, "minItems": 2, "contains": {"minimum": 0}} ">"'
    )
    tag.write_text(json.dumps({"format": {"type": "tag", "begin": "a", "end": "b", "content": {"type": "any_text"}}}))
    ebnf = tmp_path / "g.ebnf"
    ebnf.write_text('root ::= "ab"{150}')
    found = json.loads(maskloop("check", "--lark", str(grammar), "--json").out)
    assert [(v["pointer"], v["keyword"], v["verdict"]) for v in found["verdicts"]][:2] == [
        ("", "lark", "enforced"),
        ("/%json/0", "type", "enforced"),
    ]
    assert ("/%json/0", "uniqueItems", "checked") in [
        (v["pointer"], v["keyword"], v["verdict"]) for v in found["verdicts"]
    ]
    assert json.loads(maskloop("check", "--ebnf", str(ebnf), "--json").out)["min_bytes"] == 300
    for asked in (("--regex", "a+"), ("--choice", "a", "--choice", "b"), ("--structural-tag", str(tag))):
        ran = maskloop("check", *asked)
        assert ran.code == 0
        assert "(root)" in ran.out


def test_check_names_what_a_grammar_does_not_enforce(maskloop: Run, tmp_path: Path) -> None:
    grammar = tmp_path / "g.lark"
    grammar.write_text("start: /a(?=b)/")
    ran = maskloop("check", "--lark", str(grammar))
    assert (ran.code, ran.out.split()[:3]) == (1, ["refused", "lark", "(root)"])
    assert "lookaround" in ran.out
    assert "name a SCHEMA" in maskloop("check").error
    assert maskloop("check", "lift_ir", "--regex", "a").code == 2
