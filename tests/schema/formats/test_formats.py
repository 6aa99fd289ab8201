"""Formats: never wider than the validator's, exact where they say so, and legal on every real value at hand."""

from __future__ import annotations

import datetime
import ipaddress
import json
import lzma
import os
import random
from functools import lru_cache
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.schema.automata.automaton import Automaton
from engine.schema.formats.registry import EXACT, from_format
from engine.schema.regex.parser import parse

DATA = Path(os.environ.get("MASKLOOP_DATA", "../shared/data"))

LEGAL = {
    "date": ["2024-02-29", "2000-02-29", "0000-02-29", "9999-12-31"],
    "date-time": ["2024-02-29T23:59:59Z", "2024-01-01t00:00:00.125+23:59", "2016-12-31T23:59:60Z"],
    "time": ["00:00:00Z", "23:59:60.5-00:00", "12:34:56.789012345+01:00"],
    "duration": ["P1Y2M3DT4H5M6S", "PT36H", "P2W", "P1MT1M"],
    "email": ["a.b+c@example.org", '"a b"@x.y', "a@[10.0.0.1]", "a@[IPv6:2001:db8::1]", "a" * 64 + "@b"],
    "idn-email": ["é@müller.example", "用户@例子"],
    "hostname": ["a", "a-b.c9", "x" * 63 + ".org", "1.2.3.4", "a.b.c.d.e.f"],
    "idn-hostname": ["müller.example", "한국.kr", "a-b"],
    "ipv4": ["0.0.0.0", "255.249.199.99"],
    "ipv6": ["::", "1::", "::1.2.3.4", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1:2:3:4:5::1.2.3.4"],
    "uri": ["a:", "http://u:p@h:80/p;x?q#f", "urn:a:b", "x://[::1]/", "mailto:a@b", "file:///a", "x:/a//b"],
    "uri-reference": ["", "a/b:c", "//h", "?q", "#f", "../x", "./a:b"],
    "iri": ["http://ä.example/ü?\ue000#ö", "x:😀"],
    "iri-reference": ["ä", "?\ue000"],
    "uri-template": ["", "a{b}", "{+x,y*,z:3}", "{?q%20r}", "a%20b", "é"],
    "uuid": ["01234567-89ab-CDEF-0123-456789abcdef"],
    "json-pointer": ["", "/", "/a~0b/~1", "/é/0"],
    "relative-json-pointer": ["0", "1#", "12/a~1b"],
    "regex": ["", "^a+$", "(?:a|[b-])*?", "[^]", "\\d{2,4}", "(a(b)c)", "(?=a)b", "[a-z0-9_]+\\.", "\\u00e9"],
}
ILLEGAL = {
    "date": [
        "2023-02-29",
        "1900-02-29",
        "2024-04-31",
        "2024-13-01",
        "2024-1-1",
        "20240101",
        "2024-01-00",
        "+2024-01-01",
    ],
    "date-time": ["2024-02-30T00:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01 00:00:00Z", "2024-01-01T00:00:00"],
    "time": ["12:00:60Z", "23:59:60+01:00", "12:00:00.Z", "12:00Z", "12:00:00+24:00"],
    "duration": ["P", "PT", "P1Y1D", "PT1H1S", "P1W1D", "P1.5D", "-P1D"],
    "email": ["a", "@b", "a@", ".a@b", "a..b@c", "a@b_c", "é@b", "a" * 65 + "@b", "a@[x]", "a@[256.0.0.1]"],
    "idn-email": ["@é", "é@", "é"],
    "hostname": ["", "-a", "a-", "a..b", "a.", "a_b", "x" * 64, "ab--c", "xn--a"],
    "idn-hostname": ["", "-ü", "a_b", "ü" * 63, "ab--ü"],
    "ipv4": ["1.2.3", "256.1.1.1", "01.1.1.1", "1.1.1.1.1"],
    "ipv6": [":", ":::", "1::2::3", "1:2:3:4:5:6:7", "12345::", "::1%1", "1:2:3:4:5:6::1.2.3.4", "1:2:3:4:5:6:7::8"],
    "uri": ["", "a", "/a", "1a:b", "a:%zz", "a: b", "a:é", "x://[::1", "x://a:b", "a:##"],
    "uri-reference": ["a b", "%", "1:b", "\\", "é", "//a:b"],
    "iri": ["ä", "x:\ue000", "x: "],
    "iri-reference": [" ", "\ufdd0"],
    "uri-template": ["{", "}", "{}", "{a:0}", "{a b}", "%", "a b", '"'],
    "uuid": ["01234567-89ab-cdef-0123-456789abcde", "0123456789abcdef0123456789abcdef", "g" * 36],
    "json-pointer": ["a", "/~", "/~2", "#/a"],
    "relative-json-pointer": ["", "01", "-1", "1#/a", "/a"],
    "regex": ["(", ")", "[", "*", "a**", "\\", "(?=a)*", "a{2,1}", "[z-a]", "\\1"],
}


def language(name: str) -> Automaton:
    automaton = from_format(name)
    assert automaton is not None
    return automaton


@lru_cache(maxsize=32)
def validator(name: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for({"format": name}, validate_formats=True)


@pytest.mark.parametrize("name", EXACT)
def test_examples(name: str) -> None:
    assert [text for text in LEGAL[name] if not language(name).accepts(text)] == []
    assert [text for text in ILLEGAL[name] if language(name).accepts(text)] == []
    assert [text for text in LEGAL[name] if not validator(name).is_valid(text)] == []


def test_unknown_formats_are_annotations() -> None:
    assert from_format("color") is None
    assert from_format("DATE") is None


def random_word(automaton: Automaton, generator: random.Random) -> str | None:
    """A random word; None when the walk grew too long."""
    state, text = 0, ""
    while len(text) < 300:
        moves = automaton.moves(state)
        if state in automaton.accepting and (not moves or generator.random() < (0.3 if len(text) < 40 else 0.9)):
            return text
        spans, state = generator.choice(moves)
        low, high = generator.choice(spans)
        text += chr(generator.randint(low, high))
    return None


@pytest.mark.parametrize("name", EXACT)
def test_every_random_word_passes_the_validator(name: str) -> None:
    generator = random.Random(name)
    words = [random_word(language(name), generator) for _ in range(600)]
    assert [word for word in words if word is not None and not validator(name).is_valid(word)] == []
    assert sum(word is not None for word in words) > 100


# The validator takes "72-8-11-06" for a date; the tests of every day stand in for it.
@pytest.mark.parametrize("name", [name for name in EXACT if EXACT[name] and name != "date"])
def test_exact_formats_agree_with_the_validator_on_near_misses(name: str) -> None:
    generator = random.Random(name)
    spare = "".join(LEGAL[name] + ILLEGAL[name]) + "09azAZ:/%.-"
    for _ in range(1500):
        word = random_word(language(name), generator) or generator.choice(LEGAL[name])
        at = generator.randint(0, len(word))
        cut = generator.choice([0, 1, 1, 2])
        text = word[:at] + "".join(generator.choices(spare, k=generator.choice([0, 1, 1, 2]))) + word[at + cut :]
        assert language(name).accepts(text) == validator(name).is_valid(text), text


@given(day=st.dates())
def test_every_day_is_a_date(day: datetime.date) -> None:
    assert language("date").accepts(day.isoformat())


def test_no_other_day_is_a_date() -> None:
    for year in (1, 1896, 1900, 1999, 2000, 2023, 2024, 2100):
        for month in range(14):
            for day in range(33):
                text = f"{year:04}-{month:02}-{day:02}"
                try:
                    legal = datetime.date(year, month, day).isoformat() == text
                except ValueError:
                    legal = False
                assert language("date").accepts(text) == legal, text


@given(moment=st.datetimes(timezones=st.just(datetime.UTC)))
def test_every_moment_is_a_date_time(moment: datetime.datetime) -> None:
    assert language("date-time").accepts(moment.isoformat())


@given(number=st.integers(0, 2**128 - 1), cut=st.integers(0, 127))
def test_every_address_in_every_usual_spelling(number: int, cut: int) -> None:
    address = ipaddress.IPv6Address(number >> cut << cut)
    for text in (address.compressed, address.exploded, address.compressed.upper()):
        assert language("ipv6").accepts(text), text
    assert language("ipv4").accepts(str(ipaddress.IPv4Address(number % 2**32)))


def test_the_regex_subset_holds_expressions_that_this_project_reads() -> None:
    generator = random.Random(3)
    for _ in range(300):
        word = random_word(language("regex"), generator)
        if word is not None:
            parse(word)


def suite_cases() -> list[tuple[str, str, bool]]:
    """(format, text, valid) of the official suite's format files, where the data is at hand."""
    path = DATA / "json_schema_test_suite.jsonl.xz"
    if not path.exists():
        pytest.skip(f"no {path.name}: set MASKLOOP_DATA")
    with lzma.open(path, "rt") as lines:
        groups = [json.loads(line) for line in lines]
    return [
        (group["schema"]["format"], test["data"], test["valid"])
        for group in groups
        if "optional/format" in group["file"] and isinstance(group["schema"], dict) and "format" in group["schema"]
        for test in group["tests"]
        if isinstance(test["data"], str)
    ]


def test_official_suite() -> None:
    cases = [case for case in suite_cases() if case[0] in EXACT]
    contested = {text for _, text, valid in cases if valid} & {text for _, text, valid in cases if not valid}
    wrong = [case for case in cases if not case[2] and language(case[0]).accepts(case[1]) and case[1] not in contested]
    lost = [case for case in cases if case[2] and not language(case[0]).accepts(case[1])]
    assert len(cases) > 800
    assert wrong == []
    assert [case for case in lost if EXACT[case[0]] and validator(case[0]).is_valid(case[1])] == []
    assert len(lost) < 0.1 * len(cases)
