"""Values as they close, however the text is cut, compared with what the finished document holds."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from engine.checks.call import value_at
from engine.checks.closed_values import ClosedValues
from engine.pointer import steps

TEXTS = [
    '{"a":"x\\"},[","b":[1,-2.5e3,{"c":null}],"d/e~":{"":true}}',
    '[[],{},[[]],"",0]',
    ' { "a" : [ 1 , 2 ] , "b" : false } ',
    '"alone"',
    "12",
    '{"k\\u0041":{"kA":"\\\\"}}',
]


def everything(document: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths of all values, in the order in which they close."""
    members = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [*(found for key, member in members for found in everything(member, (*path, key))), path]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("cut", ["whole", "bytes", "random"])
def test_every_value_is_told_once_when_it_closes(text: str, cut: str) -> None:
    data, document = text.encode(), json.loads(text)
    paths = everything(document)
    values = ClosedValues([["*"] * depth for depth in range(8)])
    chance = random.Random(3)
    ends = {"whole": [len(data)], "bytes": range(len(data)), "random": sorted(chance.choices(range(len(data)), k=6))}
    for end in ends[cut]:
        found = values.read(data[:end])
        assert found == values.read(data[:end]), "reading again tells the same"
        assert [steps(closed.pointer) for closed in found] == [[str(p) for p in path] for path in paths[: len(found)]]
    found = values.read(data, ended=True)
    assert len(found) == len(paths)
    for closed, path in zip(found, paths, strict=True):
        so_far = json.loads(data[: closed.end] + closed.closers)
        assert value_at(so_far, closed.pointer) == json.loads(data[closed.start : closed.end])
        assert value_at(so_far, closed.pointer) == value_at(document, closed.pointer), path


def test_a_text_that_was_taken_back_is_read_again() -> None:
    values = ClosedValues([["a"], ["b"]])
    assert len(values.read(b'{"a":1,"b":2}')) == 2
    (one,) = values.read(b'{"a":1,"b":')
    assert one.pointer == "/a"
    assert [closed.pointer for closed in values.read(b'{"a":13,"b":2}')] == ["/a", "/b"]


def test_only_watched_places_are_told_and_a_star_is_any_key_or_index() -> None:
    values = ClosedValues([steps("/*/b"), steps("/1"), steps("/x~1y")])
    found = values.read(b'[{"b":1,"c":2},{"b":3}]', ended=True)
    assert [(closed.watch, closed.pointer) for closed in found] == [(0, "/0/b"), (0, "/1/b"), (1, "/1")]
    assert [closed.pointer for closed in values.read(b'{"x/y":1,"b":2}')] == ["/x~1y"]


@pytest.mark.parametrize(
    ("text", "watching"),
    [
        ("", False),
        ('{"a"', False),
        ('{"a":', True),
        ('{"a":"x', True),
        ('{"a":"x"', False),
        ('{"a":1', True),
        ('{"a":1,', False),
        ('{"b":{"a":[', False),
        ('{"c":{', True),
        ('{"c":{"a":[1],', True),
        ('{"c":{"a":[1]}', False),
    ],
)
def test_a_watched_value_is_open_or_about_to_be(text: str, watching: bool) -> None:
    values = ClosedValues([["a"], ["c"]])
    values.read(text.encode())
    assert values.watching is watching


def test_equal_values_behind_equal_text_have_one_key_and_others_do_not() -> None:
    values = ClosedValues([["*"], ["a"]])
    first = values.read(b'{"a":"x","b":"x"}', ended=True)
    assert len({closed.key for closed in first}) == len(first) == 3
    again = ClosedValues([["*"], ["a"]]).read(b'{"a":"x","b":"y"}', ended=True)
    assert [a.key == b.key for a, b in zip(first, again, strict=True)] == [True, True, False]
