"""What is asked of texts: every unit has a short text of it, and the judge agrees."""

from __future__ import annotations

import json

import pytest

from engine.checks import lift
from engine.checks.row_checks import Call, Check
from engine.checks.service import CheckService
from engine.config import Limits
from engine.schema.reading.validator import Validator
from engine.syntax import LANGUAGES, Syntax
from engine.syntax.asked.completion import completion
from engine.syntax.asked.reference import problem, target

EVERY = [Syntax(language, unit) for language, units in LANGUAGES.items() for unit in sorted(units)]


@pytest.mark.parametrize("syntax", EVERY, ids=lambda syntax: f"{syntax.language}-{syntax.unit}")
def test_each_unit_has_a_short_text(syntax: Syntax) -> None:
    shortest = completion(syntax.start())
    assert shortest is not None
    assert problem(syntax, shortest) is None
    assert target(syntax).startswith("engine.syntax.asked.reference:")


def test_a_text_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document is judged again with each of its values that closes: a hundred texts would be read 5,000 times."""
    started = Syntax.start
    starts: list[Syntax] = []
    monkeypatch.setattr(Syntax, "start", lambda syntax: starts.append(syntax) or started(syntax))
    validator = Validator({"items": {"x-syntax": {"language": "go", "unit": "expression"}}})
    texts = [f"only{number}.here" for number in range(20)]
    for count in range(1, 21):
        assert validator.check_value(texts[:count]).ok
    assert len(starts) == 20
    assert not validator.check_value([*texts, "f(x]"]).ok
    assert not validator.check_value([*texts, "f(x]"]).ok
    assert len(starts) == 21


def test_what_is_told_of_a_long_text_is_short() -> None:
    name = "a" * 20_000
    told = problem(Syntax("regex"), f"(?<{name}>b)(?<{name}>c)")
    assert told is not None
    assert told.startswith("no regex module: two groups are named 'aaa")
    assert len(told) == 300


def test_a_long_text_has_longer_to_be_judged() -> None:
    text = json.dumps({"a": "x = f(1)\n" * 3_000}).encode()
    check = Check("/a", "typescript body", target(Syntax("typescript", "body")), parses=True)
    with CheckService(Limits(check_s=0.1), {}) as service:
        for closed in (b'{"a":""}', text):
            asked = Call(check, "/a", memoryview(closed), b"", closed[:16])
            assert service.submit([asked]).result(timeout=60) == [None]


def test_lift_s_five_code_schemas_have_places_in_their_language() -> None:
    assert {name for name, table in lift.SYNTAX.items() if table} == {
        f"{language}_generation" for language in ("python", "typescript", "rust", "go", "java")
    }


BEGUN = {
    "python": 'def f(x, *, y=1.5e3):\n    """Ü"""\n    return [x for z in {"a": (1, 2)} if not y != "\\n"]  # c\n',
    "typescript": "for (const [k, v] of a) { if (k === 'x' && v?.l! > 1e3) /a[/]b/g.test(`${k} x`); }",
    "go": "package a\n\nfunc (a *T) f(x ...int) (int, error) {\n\tif x := 1.5; x > 2 {\n\t\treturn `a`, 'b'\n\t}\n}\n",
    "rust": "fn f<'a, T: Clone>(x: &'a T) -> Vec<u8> { match x { Some(n) if n > 1..=2 => b'a', _ => r#\"x\"#.len() } }",
    "java": "class A<T extends B> { @O int f(final int... x) { return x[0] >>> 1 > 2 ? 'a' : (int) 1.5e3f; }",
    "sql": "SELECT a.b AS \"c\" FROM t JOIN u ON t.x = u.x WHERE y IN (1, 2.5) AND z LIKE '%a''b' -- c\nGROUP BY 1",
    "regex": r"^(?<year>\d{4,})[-a-z\]^]+?(?=a|b)\k<year>\u0041[\p{L}]*(?:x)??$",
}
CHARACTERS = [*map(chr, range(9, 127)), "é", "\u0301", "\u2028", "🍰"]


@pytest.mark.parametrize("language", BEGUN)
def test_characters_that_are_dead_are_those_behind_which_nothing_is_valid(language: str) -> None:
    state = Syntax(language, "module").start()
    for character in BEGUN[language]:
        assert state.dead(CHARACTERS) == {one for one in CHARACTERS if not state.feed(one).alive}
        state = state.feed(character)
        assert state.alive
