"""Regular expressions, beside `re` (and ECMA-262 by hand): what is valid is alive throughout, mistakes are found."""

from __future__ import annotations

import random
import re
import warnings

import pytest

from engine.syntax import start
from engine.syntax.asked.reference import problem
from engine.syntax.asked.syntax import Syntax
from tests.syntax.following import dead_at

PIECES = [
    *"a-^$|[[*+?.:=<!#{}]()()", "[^", "{2}", "{2,}", "{,3}", "(?:", "(?=", "(?<!", "(?>", "(?P<n>", "(?P=n)", "(?(1)",
    "(?#", "(?i)", "(?x)", "(?i:", "(?x:", "(?-i:", "(?s-x:", r"\d", r"\W", r"\b", r"\n", r"\.", r"\-", r"\]", r"\\",
    r"\0", r"\x41", r"\1", r"\07", r"\012", r"\400", r"\Z", r"\q",
]  # fmt: skip


def is_whole(text: str, dialect: str | None) -> bool:
    return start("regex", "module", dialect=dialect).feed(text).whole


def compiles(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            re.compile(text)
        except (re.error, OverflowError):
            return False
    return True


def test_what_re_compiles_is_alive_throughout_and_whole() -> None:
    chance = random.Random(5)
    valid = 0
    for _ in range(6000):
        text = "".join(chance.choice([*PIECES, " ", "\n"]) for _ in range(chance.randint(1, 9)))
        if compiles(text):
            valid += 1
            assert dead_at("regex", text, "expression", "python") is None, text
            assert is_whole(text, "python"), text
    assert valid > 500


@pytest.mark.parametrize("text", [
    "", "|", r"^a*?|\bb{2,}$", r"(?<year>\d{4})-\k<year>\1", r"(?<=a)(?!b)(?:c)(?=d)(?<!e)", r"[^a-z\d\-\]]", "[]",
    "[^]", "[a-b-c]",
    r"[\d-]", r"[-\d]", r"\u{1F600}\p{Script=Greek}\P{L}\cA\0\x41\u0041\/", "(?i-s:a)", ".", "[.(*]", "é",
])  # fmt: skip
def test_what_ecma_262_has(text: str) -> None:
    assert dead_at("regex", text, "expression", None) is None
    assert is_whole(text, "ecma-262")


@pytest.mark.parametrize(("text", "good"), [
    ("a**", 2), ("a)", 1), ("]", 0), ("a}", 1), ("^*", 1), (r"\q", 1), (r"[\d-a]", 4), (r"[a-\d]", 4), (r"\00", 2),
    (r"\-", 1), ("(?=a)*", 5), ("a{2}{3}", 4), ("(?P<n>a)", 2), (r"\u{110000}", 8), ("*", 0), (r"\xg", 2),
    ("a{\u0663}", 2),
])  # fmt: skip
def test_a_mistake_of_ecma_262_is_found_where_it_is_made(text: str, good: int) -> None:
    assert dead_at("regex", text, "expression", "ecma-262") == good


@pytest.mark.parametrize(("text", "good"), [
    ("a**", 2), ("a)", 1), ("^*", 1), (r"\q", 1), (r"[\d-a]", 4), (r"[\8]", 2), (r"\400", 3), ("(?(1)a|b|c)", 8),
    ("a(?i)", 4), ("(?#c)*", 5), ("(?x)a #)\n)", 9), (r"[\Z]", 2), ("(?<n>a)", 3), ("*", 0),
])  # fmt: skip
def test_a_mistake_of_python_is_found_where_it_is_made(text: str, good: int) -> None:
    assert not compiles(text)
    assert dead_at("regex", text, "expression", "python") == good


@pytest.mark.parametrize("text", ["(", "(?", "[", "[^", "[a-", "\\", "\\x4", "(?<a"])
def test_what_is_not_finished_is_alive_and_not_whole(text: str) -> None:
    assert dead_at("regex", text, "expression", None) is None
    assert not is_whole(text, None)


def test_other_dialects_are_refused() -> None:
    with pytest.raises(ValueError, match="'ecma-262' or 'python', not 'pcre'"):
        start("regex", "module", dialect="pcre")


@pytest.mark.parametrize(("text", "dialect", "told"), [
    ("a{2,1}", None, "numbers out of order in {} at character 6 of the pattern"),
    ("[b-a]", None, "range out of order at character 4 of the pattern"),
    (r"[\u0062-\x61]", None, "range out of order at character 12 of the pattern"),
    (r"(a)\2", None, "no group 2 for the back-reference at character 5"),
    (r"\k<n>", None, r"\k names no group at character 3 of the pattern"),
    ("(?<n>a)(?<n>b)", None, "two groups are named 'n'"),
    ("(?<n>x)(?<n>y)|z", None, "two groups are named 'n'"),
    ("(?<1a>b)", None, "bad group name at character 3 of the pattern"),
    (r"\p{Foo}", None, "ECMA-262 knows no property 'Foo' at character 7 of the pattern"),
    ("(?ii:a)", None, "(?ii: names a flag twice"),
    (f"a{{{'1' * 5000},1}}", None, "numbers out of order in {} at character 5005 of the pattern"),
    (r"\1", "python", "invalid group reference 1 at position 1"),
    ("(?<=a*)", "python", "look-behind requires fixed-width pattern"),
])  # fmt: skip
def test_what_a_grammar_cannot_say_is_told_of_a_finished_one(text: str, dialect: str | None, told: str) -> None:
    assert start("regex", "module", dialect=dialect).feed(text).whole
    assert problem(Syntax("regex", dialect=dialect), text) == f"no regex module: {told}"


@pytest.mark.parametrize(
    "text",
    [
        "a{1,1}",
        "[a-b-c]",
        r"[\d-]",
        r"\2(a)(?<n>b)\k<n>",
        r"[\]-a(]",
        r"\(\1(a)",
        r"[\cA-\cZ\u{41}-\u{42}]",
        "(?<=a)",
        r"[(?i:](?i-s:a)",
        r"(?<\u0061>b)\k<a>\k<\u{61}>",
        "a{" + "1" * 5000 + "}",
    ],
)
def test_nothing_is_wrong_with_a_valid_one(text: str) -> None:
    assert problem(Syntax("regex"), text) is None


def test_a_pattern_that_is_not_finished_is_told() -> None:
    assert problem(Syntax("regex"), "(a") == "no regex module"
