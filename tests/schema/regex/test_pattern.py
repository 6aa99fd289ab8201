"""ECMA-262 patterns: what matches, what is refused by name, and agreement with other engines on random expressions."""

from __future__ import annotations

import json
import lzma
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConstraintError
from engine.schema.automata.automaton import Automaton, AutomatonTooLarge
from engine.schema.reading.validator import Validator
from engine.schema.regex.pattern import PatternInvalid, PatternUnsupported, from_pattern, full_match, may_match

DATA = Path(os.environ.get("MASKLOOP_DATA", "../shared/data"))
SUBJECTS = 'aab1 _-.é٣\n\r\t\u2028😀\x1cK\x85\ufeffbBZ&{}[]$^/"\u00a0,~#\x00\x08'

MATCHES = [
    # pattern, matching, not matching
    ("^a", ["a", "ab"], ["", "ba"]),
    ("a$", ["a", "ba"], ["ab", "a\n"]),
    ("a|^b$", ["xa", "b"], ["bb", ""]),
    ("x*$^", [""], ["x", "a"]),
    ("(?:^a|b)+$", ["a", "ab", "b", "xb"], ["xa", ""]),
    (".", ["a", "😀", "\x85"], ["", "\n", "\r", "\u2028", "\u2029", "\r\n"]),
    ("^[^]$", ["\n", "😀"], ["", "aa"]),
    ("[]", [], ["", "a"]),
    ("^[a-c\\d-]$", ["a", "c", "5", "-"], ["d", "٣"]),
    ("^\\w$", ["_", "Z", "0"], ["é", "-"]),
    ("^\\W$", ["é", "-", "😀"], ["_"]),
    ("^\\s$", ["\ufeff", "\u00a0", "\u2028", "\v", "\u3000"], ["\x85", "\u200b", "\x1c"]),
    ("^[\\s\\S]$", ["\n", "é"], [""]),
    ("^\\u{1F600}\\u00e9\\x41\\cJ\\0$", ["😀éA\n\0"], ["😀éa\n\0"]),
    ("^\\ud83d\\ude00$", ["😀"], [""]),
    ("^[\\ud83d\\ude00-\\ud83d\\ude02]$", ["😁"], ["😃"]),
    ("^[\\b]$", ["\b"], ["b"]),
    ("^\\-\\/\\_\\@\\ $", ["-/_@ "], ["-/_@"]),
    ("^a{2,3}$", ["aa", "aaa"], ["a", "aaaa"]),
    ("^a{2}?b{0,}$", ["aa", "aabb"], ["aaa"]),
    ("^a{,2}$", ["a{,2}"], ["a", "aa"]),
    ("^(?<year>\\d{4})-(?:\\d\\d)$", ["2024-01"], ["24-01"]),
    ("\\bfoo\\b", ["foo", "a foo.", "-foo-"], ["food", "_foo"]),
    ("^\\B$", [""], ["a"]),
    ("a\\B", ["ab"], ["a", "a-"]),
    ("^(?=.*\\d)(?=.*[a-z]).{3,6}$", ["a1x", "11111a"], ["aaa", "1a", "a123456"]),
    ("^(?!.*\\bab\\b).*$", ["abc", "", "b a"], ["ab", "x ab y"]),
    ("(?<=a|^b)c", ["ac", "bc"], ["xbc", "c"]),
    ("(?<!a)b", ["b", "cb"], ["ab", ""]),
    ("^(?:a(?=b)|b(?!b))*c?$", ["ab", "abab", ""], ["a", "bb"]),
    ("^(?=(?:..)*$)(?=(?:...)*$)a*$", ["", "aaaaaa"], ["aa", "aaa"]),
    ("(?=.*(?<!a)b)a", ["acb", "ab b"], ["ab"]),
    ("^\\p{Lu}\\P{Lu}$", ["Aa", "É1"], ["aA", "AA"]),
    ("^\\p{Script=Greek}+$", ["αβΓ"], ["a"]),
    ("^[\\p{L}\\p{Nd}_]+$", ["é٣_"], ["a-"]),
    ("^\\p{Letter}\\p{gc=Nd}\\p{General_Category=Decimal_Number}$", ["a12"], ["1a2"]),
    ("^(a+)+$", ["a" * 40], ["a" * 40 + "b"]),
    ("(a|aa)*?b??", ["", "zzz"], []),
    ("^[a&&b-]$", ["&", "-"], ["ab"]),
]


@pytest.mark.parametrize(("pattern", "matching", "other"), MATCHES, ids=[case[0] for case in MATCHES])
def test_meaning(pattern: str, matching: list[str], other: list[str]) -> None:
    automaton = from_pattern(pattern)
    assert [text for text in matching if not automaton.accepts(text)] == []
    assert [text for text in other if automaton.accepts(text)] == []


INVALID = [
    "(", ")", "(a", "a)", "[a", "*", "a**", "a{2,1}", "[z-a]", "[a-\\d]", "\\", "\\a", "\\Z", "\\u12", "\\x1",
    "\\u{110000}", "(?P<n>a)", "(?i)a", "(?#c)", "(?<1a>b)", "^*", "(?=a)*", "\\b+", "\\pL", "\\c1", "\\e", "a???",
]  # fmt: skip
UNSUPPORTED = ["(a)\\1", "(?<n>a)\\k<n>", "(?<=a$)b", "(?<=(?=a))b", "\\p{Nope}", "(" * 300 + ")" * 300]


@pytest.mark.parametrize("pattern", INVALID)
def test_what_is_no_expression_is_invalid(pattern: str) -> None:
    with pytest.raises(PatternInvalid, match="character"):
        from_pattern(pattern)


@pytest.mark.parametrize("pattern", UNSUPPORTED)
def test_what_is_not_regular_is_unsupported(pattern: str) -> None:
    with pytest.raises(PatternUnsupported):
        from_pattern(pattern)


def test_full_match_is_anchored_on_both_sides() -> None:
    assert full_match("a|b+") == from_pattern("^(?:a|b+)$")
    assert full_match("^a$") == Automaton.literal("a")
    assert full_match("a(?=b)").is_empty
    assert full_match("").strings(2) == [""]


def test_the_readings_differ_only_where_versions_of_unicode_do() -> None:
    unassigned = "\u0378"
    assert may_match(r"^\p{L}$").accepts(unassigned)
    assert not from_pattern(r"^\p{L}$").accepts(unassigned)
    for pattern in (r"^[a-z]+$", r"é\b", r"^(?!.)\s", r"\d\W"):
        assert may_match(pattern) == from_pattern(pattern)


HOSTILE = [
    "(a|b)*abb.{20}", "(.*a.{12}|.*b.{12})", "((a{1,100}){1,100}){1,100}", "(a?){5000}a{5000}", "a{2147483647}",
    "^(a+)+$", "(x+x+)+y", "(?=.*a.{9}b)(?=.*b.{9}a)x", "(?<=a.{14})b", "\\b(\\w+\\b.*){10}", "(((a?){9}){9}){9}",
    "^(?=.*[a-z])(?=.*[A-Z])(?=.*\\d)(?=.*[@$!%*?&])[A-Za-z\\d@$!%*?&]{8,64}$", "a" * 10_000, "|" * 5_000,
]  # fmt: skip


@pytest.mark.parametrize("pattern", HOSTILE, ids=[pattern[:30] for pattern in HOSTILE])
def test_hostile_expressions_end_quickly(pattern: str) -> None:
    start = time.process_time()
    with suppress(AutomatonTooLarge):
        assert from_pattern(pattern).states > 0
    assert time.process_time() - start < 5


ATOMS = [
    "a", "b", ".", "\\d", "\\w", "\\s", "[ab]", "[^a]", "[\\d]", "[^\\d]", "[\\w-]", "[\\s\\S]", "\\D", "\\W", "\\S",
    "1", "[^\\w]", "\\-", "\\/", "é", "\\u00e9", "\\t", "\\n", "[a-c]", "[^\\W]", "[\\b]", "[^]", "😀", "\\p{L}",
    "\\P{L}", "[.]", "[^\\p{Lu}]", "[$^]", "\\$", "-", ",", "&", "[[]", "#", " ", "[\\0-\\x1f]", '"', "\\.",
    "\\u{1F600}",
]  # fmt: skip


def expressions(generator: random.Random, depth: int) -> str:
    """A random expression of `depth` levels."""
    kind = generator.random()
    if depth == 0 or kind < 0.3:
        return generator.choice(ATOMS)

    def inner() -> str:
        return expressions(generator, depth - 1)

    if kind < 0.5:
        return inner() + inner()
    if kind < 0.6:
        return f"(?:{inner()}|{inner()})"
    if kind < 0.75:
        return f"({inner()}){generator.choice(['*', '+', '?', '{2}', '{1,2}', '{0,1}?', '*?', '{2,}', ''])}"
    if kind < 0.85:
        edges = ["^", "$", "\\b", "\\B", ""]
        return generator.choice(edges) + inner() + generator.choice(edges)
    if kind < 0.95:
        return f"{inner()}({generator.choice(['?=', '?!', '?<=', '?<!'])}{inner()}){inner()}"
    return f"^{inner()}$"


def random_subject(generator: random.Random) -> str:
    return "".join(generator.choices(SUBJECTS, k=generator.randint(0, 5)))


def test_random_expressions_are_enclosed_by_the_validator() -> None:
    """What surely matches, matches for the validator; what matches for it, may match."""
    generator = random.Random(23)
    compared = strict = 0
    for _ in range(400):
        pattern = expressions(generator, generator.randint(0, 4))
        try:
            sure, possible = from_pattern(pattern), may_match(pattern)
            validator = Validator({"pattern": pattern})
        except (PatternUnsupported, ConstraintError):
            continue
        for _ in range(25):
            text = random_subject(generator)
            verdict = validator.check_value(text).ok
            assert sure.accepts(text) <= verdict <= possible.accepts(text), (pattern, text)
            compared += 1
            strict += sure.accepts(text) == possible.accepts(text)
    assert compared > 6_000
    assert strict > 0.97 * compared


def test_random_expressions_agree_with_python_where_dialects_do() -> None:
    generator = random.Random(5)
    foreign = {"[^]", "[[]", "\\/", "\\u{1F600}", "\\p{L}", "\\P{L}", "[^\\p{Lu}]"}
    plain = [atom for atom in ATOMS if atom not in foreign]
    compared = 0
    for _ in range(400):
        pattern = "".join(generator.choice([*plain, "(?=a)", "(?!a)", "^", "|", "(?<=b)", "(?<!b)"]) for _ in range(4))
        sure, possible = from_pattern(pattern), may_match(pattern)
        compiled = re.compile(pattern, re.ASCII)
        for _ in range(20):
            text = "".join(generator.choices("ab1-é. ", k=generator.randint(0, 5)))
            if sure.accepts(text) == possible.accepts(text):
                assert sure.accepts(text) == bool(compiled.search(text)), (pattern, text)
                compared += 1
    assert compared > 3_000


@settings(max_examples=200, deadline=None)
@given(text=st.text("()[]{}|*+?^$\\.abdpuwsx0123-,<=!:é", max_size=14))
def test_any_text_is_an_automaton_or_a_named_refusal(text: str) -> None:
    with suppress(PatternInvalid, PatternUnsupported, AutomatonTooLarge):
        assert from_pattern(text) == from_pattern(f"(?:{text})")


def patterns_of(schema: Any) -> Iterator[str]:
    """Every `pattern` and every key of `patternProperties`."""
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        if isinstance(schema.get("patternProperties"), dict):
            yield from schema["patternProperties"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from patterns_of(part)


@pytest.fixture(scope="module")
def real_patterns() -> list[str]:
    path = DATA / "maskbench_dev.jsonl.xz"
    if not path.exists():
        pytest.skip(f"no {path.name}: set MASKLOOP_DATA")
    with lzma.open(path, "rt") as lines:
        return sorted({pattern for line in lines for pattern in patterns_of(json.loads(line)["schema"])})


def words(automaton: Automaton, generator: random.Random, count: int) -> list[str]:
    """Random walks from the start, some of which end in the language."""
    found = []
    for _ in range(count):
        state, text = 0, ""
        while len(text) < 40 and (moves := automaton.moves(state)):
            if state in automaton.accepting and generator.random() < 0.3:
                break
            spans, state = generator.choice(moves)
            low, high = generator.choice(spans)
            text += chr(generator.randint(low, min(high, low + generator.choice([3, 100, 10**6]))))
        found.append(text)
    return found


def test_real_patterns_agree_with_the_validator(real_patterns: list[str]) -> None:
    """On random words and their mutations; only Unicode's properties may differ, by its version."""
    generator = random.Random(17)
    for pattern in real_patterns:
        sure, possible = from_pattern(pattern), may_match(pattern)
        validator = Validator({"pattern": pattern})
        for word in words(possible, generator, 12):
            at = generator.randint(0, len(word))
            for text in (word, word[:at] + generator.choice(SUBJECTS) + word[at:], word[:at] + word[at + 1 :]):
                verdict = validator.check_value(text).ok
                assert sure.accepts(text) <= verdict <= possible.accepts(text), (pattern, text)
                if "\\p" not in pattern and "\\P" not in pattern:
                    assert sure.accepts(text) == verdict, (pattern, text)


def test_real_patterns_are_quick(real_patterns: list[str]) -> None:
    from_pattern.cache_clear()
    took = []
    for pattern in real_patterns:
        start = time.process_time()
        from_pattern(pattern)
        took.append(time.process_time() - start)
    took.sort()
    assert took[len(took) // 2] < 0.003
    assert took[int(len(took) * 0.99)] < 0.1
