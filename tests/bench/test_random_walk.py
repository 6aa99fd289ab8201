"""Random texts through our own schemas: none is broken, and the judge sees what is."""

from __future__ import annotations

import pytest

from bench import random_walk
from bench.conformance.failures import validator
from bench.datasets.cases import Case
from bench.peers import Compiled
from bench.random_walk import Subject, judge


def test_random_texts_through_our_own_schemas_are_all_valid(capsys):
    code = random_walk.main(
        ["--texts", "200", "--schemas", "40", "--level", "byte", "--steps", "40", "--conformance", "tight"]
    )
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert '"ok"' in printed


@pytest.mark.parametrize(
    ("text", "checked", "word"),
    [
        (b'{"a":1}', False, "ok"),
        (b'{"a":"x"}', False, "invalid"),
        (b'{"a":"x"}', True, "checked"),
        (b'{"a":1', False, "not JSON"),
        (b'{"a":1,"a":2}', False, "repeated key"),
        (b'{"a":1,"a":2}', True, "checked"),
        (b'{"a":1e999}', False, "not JSON"),
        (b'{"b":"\xed\xa0\x80"}', False, "not UTF-8"),
        ("dead end", False, "dead end"),
    ],
)
def test_the_judge(text, checked, word):
    schema = {"properties": {"a": {"type": "integer"}}}
    verdicts = [{"pointer": "/properties/a", "keyword": "type", "verdict": "checked"}] if checked else []
    subject = Subject(Case("c", schema, ()), Compiled(None, verdicts), validator(schema))
    assert judge(text, subject) == word
