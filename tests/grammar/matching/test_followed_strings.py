"""Strings in a language, by JSON text: where they die, where they were whole, and what reading a token costs."""

from __future__ import annotations

from engine.grammar.counting.cursor import Cursor
from engine.grammar.matching.followed_strings import Dead, FollowedStrings
from engine.syntax import State, Syntax
from engine.syntax.asked.sized import Sized


class Everywhere:
    """All strings that are values are expressions of Python."""

    sure = True

    def at(self, path: object, before: object = ()) -> tuple[frozenset[Sized], ...]:
        return (frozenset({Sized(Syntax("python", "expression"))}),)

    def may_end(self, path: object, count: int, before: object) -> bool:
        return True


def after(*tokens: bytes) -> tuple[FollowedStrings, Dead | None]:
    strings, cursor = FollowedStrings(Everywhere()), Cursor()
    for token in tokens:
        strings.push(cursor, token)
        cursor = cursor.read(token)
    return strings, strings.settle()


def test_the_earliest_token_is_told_and_what_no_token_there_may_begin_with() -> None:
    assert after(b'{"a', b'":"f', b"(x", b"]] + 1", b'"}')[1] == Dead(3, b"]")
    assert after(b'{"a":"', b"f\\u002", b"8x\\", b"u005d", b'"')[1] == Dead(3, b"u005d")
    assert after(b'["', b"f(", b'","', b'x"]')[1] == Dead(2, b'"')
    assert after(b'["f(x)', b'","y"', b"]")[1] is None
    assert after(b'{"f(":"y"}')[1] is None, "keys are no values"


def test_strings_are_held_until_they_are_judged() -> None:
    strings, _ = after(b'{"a', b'":"f', b"(x)", b'"', b',"b":', b"1", b',"c":"y"', b",")
    assert strings.held_from == 1
    strings.judged()
    assert strings.held_from == 8
    strings.push(Cursor().read(b'{"a":"f(x)","b":1,"c":"y",'), b'"d"')
    assert strings.held_from == 8, "nobody has read what begins with a quote"
    chained, _ = after(b'["', b"x", b'","', b"y", b'","')
    chained.judged()
    assert chained.held_from == 0, "what opened a string closed another, which is open again where that is taken back"


def test_taking_back_returns_to_where_it_was() -> None:
    strings, dead = after(b'["', b"a", b" +", b" b)")
    assert dead == Dead(3, b" b)")
    assert (strings.open, strings.last_whole) == (0, 2)
    strings.pop(2)
    assert (strings.settle(), strings.open, strings.last_whole) == (None, 0, 2)
    strings.pop(2)
    assert strings.open is None


def test_a_string_that_is_to_end_too_early_is_completed() -> None:
    assert after(b'["', b"f(x")[0].completion(b'"') == b")"
    assert after(b'["', b"f(")[0].completion(b'[1"') == b"[1])", "what stands before the quote stays"
    assert after(b'["', b"f(x, 'a")[0].completion(b'"') == b"')"
    assert after(b'["', b"f(x")[0].completion(b'\\"') is None, "a quote in it ends nothing"
    assert after(b'["', b"x if")[0].completion(b'"') == b" a else a"
    assert after(b'["', b"f(x, '")[0].completion(b'"') == b"')"


def test_a_place_that_has_been_gone_back_to_often_ends_the_string() -> None:
    strings, _ = after(b'["', b"f(x")
    assert [strings.completion(dead) for dead in (b"]", b"}", b";", b"$")] == [None, None, b")", None]


def test_where_no_character_beyond_ascii_may_stand_none_is_tried_again() -> None:
    cake, leading = "🍰".encode(), {bytes([code]) for code in range(0xC2, 0xF5)}
    assert leading <= {*after(b'["', b"f(x) ")[0].dead_beginnings(cake, escapes=False)}
    assert after(b'["', b"f(x")[0].dead_beginnings(cake, escapes=False) == [cake], "a name may go on with a letter"
    assert b"}" in after(b'["', b"f(x")[0].dead_beginnings(b"]", escapes=False)


def test_no_token_is_read_twice_however_long_the_string(monkeypatch) -> None:  # type: ignore[no-untyped-def]  # pytest's
    fed = list[str]()
    feed = State.feed
    monkeypatch.setattr(State, "feed", lambda state, text: fed.append(text) or feed(state, text))
    strings, cursor = FollowedStrings(Everywhere()), Cursor()
    for token in (b'"[', *[b"12, "] * 2_000, b']"'):
        strings.push(cursor, token)
        cursor = cursor.read(token)
        assert strings.settle() is None
    assert sum(map(len, fed)) == 2 + 4 * 2_000
