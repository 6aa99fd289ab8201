"""Strings in a language: written so that they parse, whatever the model wants, and closed where they do."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Constraint, Engine, Limits, Request, SamplingParams
from engine.decode.requests.opinions import Opinions
from engine.decode.step import row
from engine.errors import BudgetTooSmall
from engine.judge import Judgement
from engine.request import Result
from engine.syntax import LANGUAGES, Syntax
from engine.syntax.asked.reference import problem
from tests.decode.fakes import EOS, STEP_S, ByteTokenizer, Logits, clock_of_steps, fake_engine, random_logits, wants

PYTHON_UNITS = sorted(LANGUAGES["python"])


def schema(unit: str, **string: Any) -> dict[str, Any]:
    code = {"type": "string", "x-syntax": {"language": "python", "unit": unit}, **string}
    return {"type": "object", "properties": {"code": code}, "required": ["code"]}


def asked(what: Any, checks: Any = None, prompt: str = "x", **sampling: Any) -> Request:
    params = SamplingParams(**{"temperature": 0, "max_tokens": 400, **sampling})
    return Request(prompt=prompt, constraint=Constraint.json_schema(what, checks=checks), sampling=params)


def prefers(text: str) -> Logits:
    """Logits that spell `text`; where they may not, and behind it, one of the characters that end something."""
    spelt, drawn = wants(text), random_logits(1, 1.0)

    def logits_of(fed: Sequence[int]) -> np.ndarray:
        row, other = spelt(fed), drawn(fed)
        enders = [ord(char) for char in "\"')]}:a"]
        row[enders] = np.maximum(row[enders], other[enders])
        return row

    return logits_of


def written(tmp_path: Path, code: str, what: Any, *, checks: Any = None, limits: Any = None, **sampling: Any) -> Result:
    """By a model that wants `code`."""
    settings = {} if limits is None else {"limits": limits}
    engine, _ = fake_engine(prefers(json.dumps({"code": code}, separators=(",", ":"))), tmp_path, **settings)
    with engine:
        return engine.generate(asked(what, checks, **sampling))


def noise(seed: int) -> Logits:
    """Of which most is printed, so that strings are long."""
    drawn = random_logits(seed, 3.0)

    def logits_of(fed: Sequence[int]) -> np.ndarray:
        row = drawn(fed)
        row[:9] -= 20
        row[128:256] -= 20
        row[[ord('"'), ord("\\")]] -= 4
        return row

    return logits_of


def parses(text: str, unit: str) -> bool:
    return problem(Syntax("python", unit), text) is None


def test_what_a_reference_hides_is_not_looked_at(tmp_path: Path) -> None:
    told = schema("expression")
    hiding = {"$ref": "#/definitions/a", "x-syntax": {"language": "cobol"}}
    told["properties"]["other"] = hiding
    seventh = {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"type": "string"}}, **told}
    result = written(tmp_path, "f(]x]]y]]z)", seventh, limits=Limits(retries=0))
    assert (result.status, result.valid) == ("complete", True), "the other string is followed all the same"


@pytest.mark.parametrize(("unit", "wrong"), [
    ("expression", "f(x]"),
    ("expression", "[1, 2}] + 3"),
    ("module", "def f(x:\n    return x\n"),
    ("module", "for x in y:\nprint(x)\n"),
    ("module", "x = 'abc\ny = 1\n"),
    ("module", "retrun x\n"),
    ("body", "    total = 1\n  return total"),
    ("type", "list[int"),
    ("signature", "def f(a b)"),
])  # fmt: skip
def test_what_cannot_become_valid_is_written_otherwise(tmp_path: Path, unit: str, wrong: str) -> None:
    plain = schema(unit)
    del plain["properties"]["code"]["x-syntax"]
    assert written(tmp_path, wrong, plain).value == {"code": wrong}
    assert not parses(wrong, unit)
    result = written(tmp_path, wrong, schema(unit), limits=Limits(retries=0))
    assert result.status == "complete", "and it is no retry"
    assert result.valid
    assert parses(result.value["code"], unit)


RIGHT = 'def f(x):\n    """Ü \\d \'quoted\'"""\n    return [x for y in {"a": (1, 2)} if y != "\\n"]\n\n\nprint(f(1))\n'


def test_a_text_that_the_model_ends_too_early_is_completed(tmp_path: Path) -> None:
    wanted = "def f(x):\n    return g(x, [x"
    result = written(tmp_path, wanted, schema("module"), limits=Limits(retries=0))
    assert (result.status, result.value) == ("complete", {"code": wanted + "])"})
    short = written(tmp_path, "f(x", schema("expression", maxLength=3), limits=Limits(retries=0))
    assert (short.status, short.value) == ("complete", {"code": "f"}), "there is no room for that"


def test_what_is_valid_is_written_as_the_model_wants_it(tmp_path: Path) -> None:
    result = written(tmp_path, RIGHT, schema("module"))
    assert (result.status, result.value) == ("complete", {"code": RIGHT})


def test_it_may_be_asked_for_by_pointer_and_by_media_type(tmp_path: Path) -> None:
    plain = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
    for check in (Syntax("python", "expression"), {"language": "python", "unit": "expression"}):
        result = written(tmp_path, "f(x]", plain, checks={"/code": check}, limits=Limits(retries=0))
        assert result.status == "complete"
        ast.parse(result.value["code"], mode="eval")
    named = schema("module")
    named["properties"]["code"] = {"type": "string", "contentMediaType": "text/x-python"}
    result = written(tmp_path, "f(x]", named, limits=Limits(retries=0))
    ast.parse(result.value["code"])
    assert result.status == "complete"


def test_a_string_too_deep_in_a_document_is_followed_no_more(tmp_path: Path) -> None:
    code = {"type": "string", "x-syntax": {"language": "python", "unit": "expression"}}
    nested = {"$defs": {"n": {"anyOf": [code, {"type": "array", "items": {"$ref": "#/$defs/n"}}]}}, "$ref": "#/$defs/n"}
    engine, _ = fake_engine(prefers("[" * 200 + '"f(x]"' + "]" * 200), tmp_path, limits=Limits(retries=0))
    with engine:
        assert engine.generate(asked(nested, max_tokens=600)).status == "invalid"


def test_several_checks_stand_at_one_place(tmp_path: Path) -> None:
    plain = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
    seen: list[str] = []
    asked_for = {"/code": [Syntax("python", "expression"), lambda text, _: seen.append(text)]}
    result = written(tmp_path, "f(x]", plain, checks=asked_for)
    assert result.status == "complete"
    assert parses(result.value["code"], "expression")
    assert seen == [result.value["code"]]


@pytest.mark.parametrize("budget", range(30, 110, 9))
def test_a_forced_ending_goes_back_to_where_the_text_was_valid(tmp_path: Path, budget: int) -> None:
    text = "import os\nx = [\n    1,\n    2,\n]\n\ndef f(a):\n    return g(a, [" + "a, " * 200
    result = written(tmp_path, text, schema("module"), max_tokens=budget)
    assert result.status == "closed"
    assert text.startswith(result.value["code"].rstrip("\n"))
    ast.parse(result.value["code"])


def test_an_ending_writes_something_valid_where_nothing_was_yet(tmp_path: Path) -> None:
    both = schema("expression")
    both["properties"]["more"] = {"type": "array", "items": both["properties"]["code"], "minItems": 2}
    both["required"].append("more")
    result = written(tmp_path, "(" * 300, both, max_tokens=90)
    assert result.status == "closed"
    for text in (result.value["code"], *result.value["more"]):
        ast.parse(text, mode="eval")


def code(language: str, unit: str, **string: Any) -> dict[str, Any]:
    return {"type": "string", "x-syntax": {"language": language, "unit": unit}, **string}


def holding(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


MANY = {
    "a dozen": (holding(q=code("sql", "statement")), {"type": "array", "minItems": 12, "items": code("go", "module")}),
    "of each": tuple(code(language, sorted(units)[-1]) for language, units in LANGUAGES.items()),
    "lengths": (
        code("sql", "type", minLength=30),
        code("go", "module", minLength=9),
        code("rust", "signature", minLength=20),
    ),
    "branches": ({"anyOf": [code("java", "signature"), code("go", "module")]}, code("typescript", "signature")),
    "a document": (
        {"type": "string", "contentMediaType": "application/json", "contentSchema": holding(a={"minLength": 3})},
        {"type": "array", "minItems": 3, "items": holding(b=code("java", "signature"), c={"type": "integer"})},
    ),
}


@pytest.fixture(scope="module")
def modest(tmp_path_factory: pytest.TempPathFactory) -> Any:
    engine, _ = fake_engine(noise(8), tmp_path_factory.mktemp("cache"), max_batch=12)
    with engine:
        yield engine


@pytest.mark.parametrize("parts", MANY.values(), ids=MANY)
def test_the_least_budget_suffices_for_all_that_must_still_come(modest: Engine, parts: Sequence[Any]) -> None:
    constraint = Constraint.json_schema(holding(**{f"p{at}": part for at, part in enumerate(parts)}))
    least = modest.check(constraint)["min_tokens"]

    def request(budget: int, n: int = 1) -> Request:
        sampling = SamplingParams(max_tokens=budget, temperature=1, seed=budget, n=n)
        return Request(prompt="x", constraint=constraint, sampling=sampling)

    running = [modest.submit(request(least + more, n)) for more, n in ((0, 2), (1, 1), (3, 1), (17, 1), (60, 2))]
    results = [one.result() for one in running]
    statuses = [sample.status for result in results for sample in result.samples or (result,)]
    assert len(statuses) == 7
    assert set(statuses) <= {"complete", "closed"}
    with pytest.raises(BudgetTooSmall, match=f"needs {least}"):
        modest.generate(request(least - 1))


def test_the_least_budget_counts_languages_by_pointer(modest: Engine) -> None:
    texts = holding(a={"type": "array", "items": {"type": "string"}, "minItems": 12})
    told = Constraint.json_schema(texts, checks={"/a/*": Syntax("go")})
    least = modest.check(told)["min_tokens"]
    assert least >= modest.check(Constraint.json_schema(texts))["min_tokens"] + 12 * len("package a")
    result = modest.generate(Request(prompt="x", constraint=told, sampling=SamplingParams(max_tokens=least)))
    assert result.value == {"a": ["package a"] * 12}


@pytest.mark.parametrize("budget", [400, 32])
def test_strings_of_one_branch_are_of_its_language(tmp_path: Path, budget: int) -> None:
    of_each = {"anyOf": [{"type": "array", "items": code(*one)} for one in (("python", "expression"), ("go", "body"))]}
    engine, _ = fake_engine(prefers('["a := 1","x if y else z","b"]'), tmp_path, limits=Limits(retries=0))
    with engine:
        result = engine.generate(asked(of_each, max_tokens=budget))
    assert result.status in ("complete", "closed"), result.error
    assert result.value[0] == "a := 1"
    assert len(result.value) > 1
    assert all(problem(Syntax("go", "body"), text) is None for text in result.value)


def sql_or(**python: Any) -> list[dict[str, Any]]:
    """Branches of an anyOf of which only that of Python asks for a length."""
    return [{**code("python", "module"), **python}, code("sql", "module")]


@pytest.mark.parametrize("branches", [
    sql_or(minLength=20),
    sql_or(maxLength=8),
    [{"type": "array", "items": one, "minItems": least} for one, least in zip(sql_or(), (3, 1), strict=True)],
])  # fmt: skip
def test_a_length_that_one_branch_asks_for_is_held_where_the_text_is_of_that_branch(
    tmp_path: Path, branches: list[Any]
) -> None:
    wanted = ["def f(): pass"] if "items" in branches[0] else "def f(): pass"
    engine, _ = fake_engine(prefers(json.dumps(wanted, separators=(",", ":"))), tmp_path, limits=Limits(retries=0))
    with engine:
        result = engine.generate(asked({"anyOf": branches}, max_tokens=120))
    assert result.status in ("complete", "closed"), (result.error, result.text)
    assert result.value != wanted


def test_the_longest_length_ends_a_text_where_it_was_valid(tmp_path: Path) -> None:
    result = written(tmp_path, "a + f(b, c) + g(dddd)", schema("expression", maxLength=18))
    assert result.status == "complete"
    assert result.value["code"].startswith("a + f(b, c)")
    assert parses(result.value["code"], "expression")


def test_escapes_are_what_they_stand_for(tmp_path: Path) -> None:
    engine, _ = fake_engine(prefers('{"code":"f\\u0028x\\u005d"}'), tmp_path)
    with engine:
        result = engine.generate(asked(schema("expression")))
    assert result.status == "complete"
    assert result.value["code"].startswith("f(x")
    assert parses(result.value["code"], "expression")


def test_a_stream_never_takes_anything_back(tmp_path: Path) -> None:
    plain = {"type": "object", "properties": {"a": {"type": "string"}, "code": {"type": "string"}}}
    told: list[str] = []
    engine, _ = fake_engine(prefers('{"a":"first","code":"f(x] + g(y}"}'), tmp_path)
    with engine:
        request = asked({**plain, "required": ["a", "code"]}, {"/code": Syntax("python", "expression")})
        result = engine.submit(request, on_text=lambda _, piece: told.append(piece)).result()
    assert "".join(told) == result.text
    assert result.status == "complete"
    assert any(piece for piece in told[:-1]), "what is not code was told before"


def test_samples_are_followed_apart(tmp_path: Path) -> None:
    engine, _ = fake_engine(noise(5), tmp_path)
    with engine:
        result = engine.generate(asked(schema("expression"), temperature=1, seed=1, n=4, max_tokens=80))
    texts = [json.loads(sample.text)["code"] for sample in result.samples]
    assert len(set(texts)) > 1
    assert [parses(text, "expression") for text in texts] == [sample.valid for sample in result.samples]
    assert any(sample.valid for sample in result.samples)


def noise_in_the_text(seed: int) -> Logits:
    """Spells the object, and draws the text in it from a few characters."""
    drawn, begin, few = random_logits(seed, 1.0), '{"code":"', 'x+()"'

    def logits_of(fed: Sequence[int]) -> np.ndarray:
        told = ByteTokenizer().decode(fed).rpartition("[assistant]")[2]
        wanted = {'"': "}", "}": ""}.get(told[-1:], few)
        if begin.startswith(told):
            wanted = begin[len(told) :][:1] or few
        row = drawn(fed) - 20
        row[[ord(char) for char in wanted] or EOS] += 20
        return row

    return logits_of


@pytest.mark.parametrize("method", ["smc", "rejection"])
def test_particles_that_cannot_become_valid_are_dead(tmp_path: Path, method: Any) -> None:
    held, plain = schema("expression", maxLength=3), schema("expression", maxLength=3)
    del plain["properties"]["code"]["x-syntax"]
    given = {"temperature": 1, "method": method, "max_tokens": 40, **({"particles": 8} if method == "smc" else {})}
    engine, _ = fake_engine(noise_in_the_text(2), tmp_path, max_batch=8)
    with engine:
        free = [engine.generate(asked(plain, seed=seed, **given)) for seed in range(5)]
        followed = [engine.generate(asked(held, seed=seed, **given)) for seed in range(5)]
    assert {result.status for result in (*free, *followed)} == {"complete"}
    assert not all(parses(result.value["code"], "expression") for result in free)
    assert all(parses(result.value["code"], "expression") for result in followed)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Any:
    engine, _ = fake_engine(noise(3), tmp_path_factory.mktemp("cache"), max_batch=8)
    with engine:
        yield engine


@pytest.mark.parametrize("unit", PYTHON_UNITS)
def test_noise_ends_and_claims_nothing_wrong(noisy: Engine, unit: str) -> None:
    two = schema(unit)
    two["properties"]["b"] = {"type": "string", "maxLength": 12, "x-syntax": {"language": "python", "unit": unit}}
    two["required"].append("b")
    running = [
        noisy.submit(asked(two, prompt=f"p{seed}", temperature=1, seed=seed, max_tokens=(40, 120, 300)[seed % 3]))
        for seed in range(9)
    ]
    for result in (one.result() for one in running):
        assert result.status in ("complete", "closed", "invalid")
        texts = json.loads(result.text).values()
        assert all(parses(text, unit) for text in texts) == (result.status != "invalid")


@pytest.mark.parametrize("method", ["mask", "smc", "rejection"])
def test_a_stream_tells_the_text_of_every_sample_however_it_ends(tmp_path: Path, method: Any) -> None:
    told: dict[tuple[int, int], str] = {}
    held = Constraint.json_schema(schema("expression", maxLength=3))
    given = {"temperature": 1, "method": method, "max_tokens": 40, "n": 2}
    engine, _ = fake_engine(noise_in_the_text(4), tmp_path, max_batch=8)
    with engine:
        running = []
        for seed in range(9):
            particles = {"particles": 4} if method == "smc" else {}
            request = Request(
                id=f"r{seed}",
                prompt="x",
                constraint=held,
                sampling=SamplingParams(**given, **particles, seed=seed),
                deadline_s=0.01 if seed % 3 == 1 else None,
            )

            def heard(index: int, piece: str, seed: int = seed) -> None:
                told[seed, index] = told.get((seed, index), "") + piece

            running.append(engine.submit(request, on_text=heard))
            if seed % 3 == 2:
                engine.cancel(f"r{seed}")
        results = [one.result(timeout=300) for one in running]
    for seed, result in enumerate(results):
        for index, sample in enumerate(result.samples):
            assert told.get((seed, index), "") == sample.text
            assert not sample.valid or parses(json.loads(sample.text)["code"], "expression")
    assert {sample.status for sample in results[0].samples} <= {"complete", "closed", "dead_end", "invalid"}
    assert {sample.status for sample in results[2].samples} == {"cancelled"}


AROUND = {
    "type": "object",
    "properties": {
        "a": {"type": "string", "maxLength": 16},
        "list": {"type": "array", "minItems": 1, "maxItems": 4, "items": schema("expression")["properties"]["code"]},
        **schema("body")["properties"],
        "b": {"$ref": "#/properties/list"},
        "z": {"type": "string", "maxLength": 9},
    },
    "required": ["a", "list", "code", "z"],
}


def test_a_stream_holds_back_strings_in_languages_until_they_are_judged(tmp_path: Path) -> None:
    told, heard = "", list[str]()
    text = '{"a":"what is no code","list":["x","f(y)"],"code":"return f(x)","z":"end"}'
    engine, network = fake_engine(wants(text), tmp_path)
    network.before = lambda: heard.append(told)
    with engine:

        def hear(_: int, piece: str) -> None:
            nonlocal told
            told += piece

        result = engine.submit(asked(AROUND), on_text=hear).result(60)
    assert (told, result.text) == (text, text)
    for written in ('{"a":"what is no co', '{"a":"what is no code","list":[', f"{text[:-20]}", text[:-3]):
        assert any(one.startswith(written) and len(one) < len(text) for one in heard), f"told early: {written}"
    for begin, end in (('["', 'x"'), ('"code":"', 'return f(x)"')):
        held = range(text.index(begin) + len(begin), text.index(begin) + len(begin + end))
        assert not any(len(one) in held for one in heard), "a string in a language comes at once"


@pytest.mark.parametrize("case", ["plain", "refused", "short", "overdue"])
def test_what_a_stream_has_told_is_never_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    kept, take_back = list[bool](), row._take_back

    def taken_back(sample: Any, count: int, tokenizer: Any) -> None:
        take_back(sample, count, tokenizer)
        kept.append(sample.told <= len("".join(sample.pieces)))

    monkeypatch.setattr(row, "_take_back", taken_back)
    if case == "refused":  # by a judge that knows more than the parser
        monkeypatch.setattr(Opinions, "learn", _refusing(Opinions.learn))
    told: dict[str, str] = {}
    early = 0
    engine, network = fake_engine(noise(11), tmp_path)
    with engine, clock_of_steps(network):
        running = []
        for seed in range(12):
            params = SamplingParams(temperature=1, seed=seed, max_tokens=60 if case == "short" else 300)
            deadline_s = (20 + 10 * seed) * STEP_S if case == "overdue" else None
            request = Request(
                id=f"{seed}",
                prompt="x",
                constraint=Constraint.json_schema(AROUND),
                sampling=params,
                deadline_s=deadline_s,
            )

            def heard(_: int, piece: str, name: str = request.id) -> None:
                nonlocal early
                early += name in told
                told[name] = told.get(name, "") + piece

            running.append(engine.submit(request, on_text=heard))
        results = [one.result(120) for one in running]
    assert [told.get(result.id, "") for result in results] == [result.text for result in results]
    assert kept
    assert all(kept), "nothing that was handed on"
    assert early > len(results)


def _refusing(learn: Any) -> Any:
    """Judgements as they are, but that code with an x in it is refused."""

    def refusing(self: Opinions, texts: tuple[bytes, ...], verdict: Any) -> None:
        found = [json.loads(text).get("list", []) for text in texts]
        wrong = [next((at for at, code in enumerate(list_) if "x" in code), None) for list_ in found]
        judged = [
            one if at is None else Judgement(False, "an x", f"/list/{at}")
            for one, at in zip(verdict.judgements, wrong, strict=False)
        ]
        learn(self, texts, replace(verdict, judgements=judged))

    return refusing
