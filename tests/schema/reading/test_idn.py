"""International host names by IDNA 2008: what the judge takes, and that the grammar takes nothing else."""

# ruff: noqa: E501 - a kind a line reads best

from __future__ import annotations

import random

import pytest

from engine.schema import Validator
from engine.schema.formats.registry import from_format
from tests.schema.formats.test_formats import random_word

JUDGE = Validator({"type": "string", "format": "idn-hostname"})

VALID = [
    "a", "example.com", "EXAMPLE.com", "xn--bcher-kva.com", "bücher.com", "한국.kr", "実例.com", "a\u3002b", "straße.de",
    "βόλος.com",
    "l\u00b7l", "\u0375\u03b2", "\u05d0\u05f3\u05d1", "\u30fb\u3041", "\u0628\u0660\u0628", "\u0628\u06f0\u0628", "\u0915\u094d\u200d\u0937",
    "a" * 63, "é" * 57,
]  # fmt: skip
INVALID = [
    "", ".", "a.", ".a", "a..b", "-a", "a-", "ab--c", "a_b", "xn--X", "xn--a", "Bücher.com", "\u0130", "\ufb01", "\u2460", "\u2126",
    "\u302e\uc2e4", "\uc2e4\u302e", "a\u00b7l", "l\u00b7", "\u0375S", "A\u05f3\u05d1", "def\u30fbabc", "\u0628\u0660\u06f0",
    "\u0915\u200d\u0937", "\u0640\u07fa",
    "a" * 64, "é" * 58, ".".join(["a" * 60] * 5), "-> $1.00 <--", "e\u0301", "\u05d0a", "1\u05d0", "ü" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("name", VALID)
def test_a_name_that_idna_2008_allows_is_valid(name: str) -> None:
    assert JUDGE.check_value(name).ok


@pytest.mark.parametrize("name", INVALID)
def test_a_name_that_idna_2008_disallows_is_not(name: str) -> None:
    assert not JUDGE.check_value(name).ok


def test_what_is_no_string_has_no_format() -> None:
    assert Validator({"format": "idn-hostname"}).check_value(7).ok


def test_every_name_that_the_grammar_writes_is_one() -> None:
    generator, language = random.Random(2), from_format("idn-hostname")
    assert language is not None
    words = [word for word in (random_word(language, generator) for _ in range(1500)) if word]
    assert len(words) > 500
    assert [word for word in words if not JUDGE.check_value(word).ok] == []
    assert not language.accepts("Bücher.com")
    assert all(map(language.accepts, ("bücher.com", "Bucher.com", "bücher.COM", "COM.bücher", "한국.kr")))
