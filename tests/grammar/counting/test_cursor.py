"""The cursor counts what a parser of the whole text finds, at every byte and wherever the text is cut."""

from __future__ import annotations

import json
from itertools import cycle
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from engine.config import Limits
from engine.grammar.counting.cursor import Cursor
from engine.schema.rules.guards import Facts


class Seen(NamedTuple):
    """The facts behind one byte; `outer` has the keys and counts of all open containers, the innermost first."""

    chars: int = 0
    key: str = ""
    in_string: bool = False
    is_key: bool = False
    in_escape: bool = False
    digits: int = 0
    outer: tuple[tuple[frozenset[str], int], ...] = ()


def seen_by(cursor: Cursor) -> Seen:
    outer, levels = [], 0
    while (facts := cursor.out(levels)).frame is not None:
        assert (facts.chars, facts.key) == (0, "")
        outer.append((facts.keys, facts.count))
        levels += 1
    assert (cursor.keys, cursor.count) == (outer[0] if outer else (frozenset(), 0))
    return Seen(
        cursor.chars, cursor.key, cursor.in_string, cursor.is_key, cursor.in_escape, cursor.digits, tuple(outer)
    )


class Member(NamedTuple):
    key: list[str]
    value: Any


class Array(NamedTuple):
    items: list[Any]
    gaps: list[str]


class Object(NamedTuple):
    members: list[Member]
    gaps: list[str]


def loaded(spelling: str) -> str:
    return str(json.loads(f'"{spelling}"'))


class Writer:
    """Writes a document from its parts and notes, behind every byte, what there is to know."""

    def __init__(self, document: Any) -> None:
        self.text = b""
        self.seen: list[Seen] = []
        self._outer: list[tuple[frozenset[str], int]] = []
        self._value(document)

    def _write(self, text: str, **facts: Any) -> None:
        for byte in text.encode():
            self.text += bytes([byte])
            self.seen.append(Seen(outer=tuple(reversed(self._outer)), **facts))

    def _value(self, value: Any) -> None:
        if isinstance(value, Array | Object):
            self._container(value)
        elif isinstance(value, list):
            self._string(value, is_key=False)
            self._write('"')
        elif value[0] in "-0123456789":
            for digits, byte in enumerate(value, 1):
                self._write(byte, digits=digits)
        else:
            self._write(value)

    def _container(self, value: Array | Object) -> None:
        begin, gaps = len(self.text), cycle(value.gaps)
        self._outer.append((frozenset(), 0))
        self._write("[" if isinstance(value, Array) else "{")
        parts: list[Any] = value.items if isinstance(value, Array) else value.members
        for number, part in enumerate(parts):
            self._write(("," if number else "") + next(gaps))
            if isinstance(part, Member):
                self._key(part.key)
                self._write(next(gaps) + ":" + next(gaps))
                self._value(part.value)
            else:
                self._outer[-1] = (frozenset(), number + 1)
                self._value(part)
            self._write(next(gaps))
        keys, count = self._outer.pop()
        self._write("]" if isinstance(value, Array) else "}")
        parsed = json.loads(self.text[begin:], object_pairs_hook=lambda pairs: pairs)
        assert count == len(parsed)
        assert isinstance(value, Array) or keys == {key for key, _ in parsed}

    def _string(self, units: list[str], *, is_key: bool) -> None:
        self._write('"', in_string=True, is_key=is_key)
        for number, unit in enumerate(units):
            before, through = loaded("".join(units[:number])), loaded("".join(units[: number + 1]))
            assert len(through) == number + 1
            for at, character in enumerate(unit):
                finished = at + 1 == len(unit)
                open_bytes = len(character.encode()) - 1
                facts = {"in_string": True, "is_key": is_key, "in_escape": not finished, "chars": number + 1}
                size = len(self.seen)
                self._write(character, **facts, key=(through if finished else before) if is_key else "")
                if is_key:  # a character has been read when its last byte has
                    self.seen[size : size + open_bytes] = [
                        s._replace(key=before) for s in self.seen[size:][:open_bytes]
                    ]

    def _key(self, units: list[str]) -> None:
        self._string(units, is_key=True)
        keys, count = self._outer[-1]
        self._outer[-1] = (keys | {loaded("".join(units))}, count + 1)
        self._write('"')


def escaped(character: str) -> str:
    """With its UTF-16 code units as escapes; astral characters as a pair."""
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


plain = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\')
few = st.sampled_from(["a", "é", "😀", "\\u0061", "\\u00E9", "\\ud83d\\uDE00", "\\/", "/"])
unit = st.one_of(
    few, plain, st.characters(exclude_categories=["Cs"]).map(escaped), st.sampled_from([rf"\{c}" for c in '"\\bfnrt']),
)  # fmt: skip
gaps = st.lists(st.sampled_from(["", "", " ", "\n\t "]), min_size=1, max_size=5)
strings = st.lists(unit, max_size=5)
scalars = st.one_of(
    strings, st.sampled_from(["true", "false", "null", "0", "-0.5", "12e+3", "1E-7"]), st.integers().map(str)
)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.builds(Array, st.lists(inner, max_size=4), gaps),
        st.builds(Object, st.lists(st.builds(Member, st.lists(few, max_size=2) | strings, inner), max_size=4), gaps),
    ),
    max_leaves=12,
)


@given(documents)
def test_every_byte_counts_as_it_should(document: Any) -> None:
    written = Writer(document)
    cursor = Cursor()
    for at, expected in enumerate(written.seen):
        cursor = cursor.read(written.text[at : at + 1])
        assert seen_by(cursor) == expected, written.text[: at + 1]


@given(documents, st.data())
def test_the_text_may_be_cut_anywhere(document: Any, data: st.DataObject) -> None:
    written = Writer(document)
    cuts = data.draw(st.lists(st.integers(0, len(written.text)), max_size=8).map(sorted))
    cursor = Cursor()
    for start, end in zip([0, *cuts], [*cuts, len(written.text)], strict=True):
        cursor = cursor.read(written.text[start:end])
        assert cursor == Cursor().read(written.text[:end])
        assert end == 0 or seen_by(cursor) == written.seen[end - 1]


@given(st.lists(st.sampled_from([*'{}[]",:\\ud8Dc3e01- é', "\\ud83d", "\\ude00", '":"']), max_size=20), st.data())
def test_even_a_broken_text_is_read_the_same_in_one_go_and_in_two(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces).encode()
    cut = data.draw(st.integers(0, len(text)))
    assert Cursor().read(text) == Cursor().read(text[:cut]).read(text[cut:])


def test_a_lone_half_of_a_pair_is_a_character_once_no_other_half_can_come() -> None:
    begun = Cursor().read(b'"\\ud83d')
    assert (begun.chars, begun.in_escape) == (1, True)
    assert [begun.read(text).chars for text in (b"\\", b"\\u", b"\\ude00", b"a", b"\\n", b"\\ud83d")] == [
        1, 1, 1, 2, 2, 2,
    ]  # fmt: skip


def test_the_facts_are_those_that_guards_ask_for() -> None:
    facts: Facts = Cursor().read(b'{"b":[1,{"x":2,"y')
    assert (facts.chars, facts.key, facts.keys, facts.count) == (1, "y", frozenset("x"), 1)


def test_a_guard_is_passed_by_the_first_character_digit_or_item_too_many() -> None:
    limits = Limits(string_chars=3, number_chars=4, array_items=2)
    for within, beyond in [
        (b'"abc', b'"abcd'),
        (b'{"\\n\\u00e9\\ud83d\\ude00', b'{"\\n\\u00e9\\ud83d\\ude00e'),
        (b'["abc"', b'["abc","\xc3\xa9\xc3\xa9\xc3\xa9\xc3'),
        (b"[-1.5", b"[-1.5e"),
        (b"[1,2", b"[1,2,"),
        (b'[[1,2],"a"', b'[[1,2],"a",'),
        (b'{"a":1,"b":2,"c":3', b'{"a":1,"b":2,"c":[3,4,'),
    ]:
        assert not Cursor().read(within).over(limits)
        assert Cursor().read(beyond).over(limits)
