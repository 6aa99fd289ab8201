"""One way to read a text as tokens: where the scanner stands, with the parser's stacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from engine.syntax.language import Language, Mode, Start
from engine.syntax.scanner import ScanState
from engine.syntax.stacks import Stacks, TooAmbiguous, pushed, same, shift, united, viable

NOTHING: Stacks = ()
TAB = 8
MOST_READINGS = 16
Column = tuple[int, int]
"""With a tab to every eighth place, and with a tab of one place: where the two disagree on what is further in, the
text is refused, as Python does."""
BEGIN: Column = (0, 0)


@dataclass(slots=True, eq=False)
class Layout:
    """Columns of the blocks around (innermost first, linked; None: the first line tells), and where a line begins."""

    blocks: tuple[Column, Any] | None
    column: Column = BEGIN
    text: str = ""
    """Of the space that is being measured."""


@dataclass(slots=True, eq=False)
class Reading:
    """Never changed (not `frozen`: that would double what making one takes). What it holds grows with nesting and with
    the token that is open, not with the text."""

    stacks: Stacks
    modes: tuple[Mode, Any]
    layout: Layout
    place: ScanState | None = None
    """Within a token. None: between two."""
    accepts: tuple[int, ...] = ()
    """Terminals of the longest token so far; `pending` are the characters after it."""
    pending: str = ""
    witness: int = -1
    """A terminal that the token can still be and that the stacks can take, which makes them `taken`."""
    taken: Stacks = NOTHING


def begin(start: Start) -> Reading:
    stacks = (pushed(start.state, None),)
    return Reading(stacks, (start.mode, None), Layout(None if start.loose else (BEGIN, None)))


def read(language: Language, readings: Iterable[Reading], text: str) -> list[Reading]:
    """Readings after more of the text, those that some continuation makes valid. TooAmbiguous: too many of them."""
    work, done = [(reading, text) for reading in readings], list[Reading]()
    while work:
        if len(work) + len(done) > MOST_READINGS:
            raise TooAmbiguous
        reading, text = work.pop() if len(work) == 1 else _next(work)
        if not text:
            done.append(reading)
        elif reading.place is None:
            work += _enter(language, reading, text)
        else:
            work += _scan(language, reading, text, done)
    return done


def _next(work: list[tuple[Reading, str]]) -> tuple[Reading, str]:
    """The reading that has most text to go, together with those that stand between tokens at the same place.

    Before they go on, those at that place which are within a token leave it, so that all of them meet.
    """
    work.sort(key=lambda one: (len(one[1]), one[0].place is not None))
    reading, text = work.pop()
    for other, rest in list(work) if reading.place is None else ():
        if (
            len(rest) == len(text)
            and other.place is None
            and same(other.modes, reading.modes)
            and _level(other, reading)
        ):
            reading = replace(reading, stacks=united(reading.stacks, other.stacks))
            work.remove((other, rest))
    return reading, text


def _level(one: Reading, other: Reading) -> bool:
    """Whether both stand in the same blocks, at the same column."""
    return one.layout is other.layout or (
        one.layout.column == other.layout.column and same(one.layout.blocks, other.layout.blocks)
    )


def _enter(language: Language, reading: Reading, text: str) -> list[tuple[Reading, str]]:
    """At the first character of a token."""
    mode, character = reading.modes[0], text[0]
    entered = []
    for scanner, stacks in mode.by_context(reading.stacks):
        place = scanner.start.after.get(character) or scanner.start.step(character)
        if place is None:
            if mode.otherwise:
                return _otherwise(language, reading, mode.otherwise, text)
            continue
        witness, taken = _witness(language, place, stacks)
        if witness >= 0:
            layout = replace(reading.layout, text=character) if mode.measures else reading.layout
            entered.append((Reading(stacks, reading.modes, layout, place, place.accepts, "", witness, taken), text[1:]))
    return entered


def _witness(language: Language, place: ScanState, stacks: Stacks) -> tuple[int, Stacks]:
    for terminal in place.candidates:
        if terminal in language.free:
            return terminal, language.take(stacks, terminal)
        if taken := shift(stacks, terminal):
            return terminal, taken
    return -1, NOTHING


def _scan(language: Language, reading: Reading, text: str, done: list[Reading]) -> list[tuple[Reading, str]]:
    """Within a token, up to its end or the text's."""
    place, accepts, pending = reading.place, reading.accepts, reading.pending
    witness, taken = reading.witness, reading.taken
    assert place is not None
    for index, character in enumerate(text):
        after = place.after.get(character) or place.step(character)
        if after is None:
            return _leave(language, reading, (accepts, witness, taken), pending, text[:index], text[index:])
        place = after
        if place.accepts:
            accepts, pending = place.accepts, ""
        elif accepts:
            pending += character
        if witness not in place.reaches:
            witness, taken = _witness(language, place, reading.stacks)
            if witness < 0:
                index += 1
                token = accepts if pending else ()
                return _leave(language, reading, (token, witness, taken), pending, text[:index], text[index:])
    layout = reading.layout
    if reading.modes[0].measures:
        layout = _measured(reading.modes[0], layout, place, pending, text)
    done.append(Reading(reading.stacks, reading.modes, layout, place, accepts, pending, witness, taken))
    return []


def _leave(
    language: Language,
    reading: Reading,
    token: tuple[tuple[int, ...], int, Stacks],
    pending: str,
    scanned: str,
    rest: str,
) -> list[tuple[Reading, str]]:
    """After a token: what has been scanned behind its end is read again."""
    accepts, witness, taken = token
    if not accepts:
        return []
    if accepts == (witness,):
        stacks = taken
    else:
        stacks = NOTHING
        for terminal in accepts:
            stacks = united(stacks, language.take(reading.stacks, terminal))
    modes, layout = reading.modes, reading.layout
    mode = modes[0]
    if mode.measures:
        space = (layout.text + scanned).removesuffix(pending) if accepts[0] in mode.spaces else ""
        layout = replace(layout, column=_column(layout.column, space), text="")
    if action := mode.actions.get(accepts[0]):
        verb, target = action
        below = modes[1] if verb != "push" else modes
        modes = (target, below) if target else below
        if target and target.spaces:
            layout = replace(layout, column=BEGIN)
    if not stacks or modes is None:
        return []
    return [(Reading(stacks, modes, layout), pending + rest)]


def _measured(mode: Mode, layout: Layout, place: ScanState, pending: str, text: str) -> Layout:
    """What is known to be space is counted, and what cannot be space any more is forgotten."""
    text = layout.text + text
    if place.accepts and not pending and place.accepts[0] in mode.spaces:
        return replace(layout, column=_column(layout.column, text), text="")
    return replace(layout, text=text if mode.spaces & place.reaches else "")


def _column(column: Column, space: str) -> Column:
    wide, narrow = column
    for character in space:
        narrow += 1
        if character == "\t":
            wide = wide // TAB * TAB + TAB
        elif character == "\f":
            wide = narrow = 0
        else:
            wide += 1
    return wide, narrow


def _otherwise(language: Language, reading: Reading, mode: Mode, text: str) -> list[tuple[Reading, str]]:
    """At a token of the other mode. With `layout` it is the first of a line: blocks begin or end."""
    if not language.layout:
        return [(replace(reading, modes=(mode, reading.modes[1])), text)]
    indent, dedent = language.layout
    stacks, column, blocks = reading.stacks, reading.layout.column, reading.layout.blocks
    if blocks is None:
        blocks = (column, None)
    elif column[0] > blocks[0][0]:
        stacks, blocks = shift(stacks, indent) if column[1] > blocks[0][1] else NOTHING, (column, blocks)
    while blocks and column[0] < blocks[0][0]:
        stacks, blocks = shift(stacks, dedent), blocks[1]
    if not stacks or not blocks or blocks[0] != column:
        return []
    return [(Reading(stacks, (mode, reading.modes[1]), Layout(blocks)), text)]


def dead(language: Language, readings: Iterable[Reading], characters: Iterable[str]) -> set[str]:
    """Those of the characters behind which nothing makes the text valid. As if each were read, but what the stacks can
    take is asked once."""
    readings, left = list(readings), set(characters)
    if any(one.pending or not language.joins.isdisjoint(one.accepts) for one in readings):
        return {character for character in left if not read(language, readings, character)}
    for reading in readings:
        place = reading.place
        within = {} if place is None else {one: after for one in left if (after := place.step(one))}
        left -= _taken(language, reading.stacks, within)
        longer = {one for one, after in within.items() if after.accepts}
        for behind in settled(language, [reading]):
            left -= _entered(language, behind, left - longer)
    return left


def _entered(language: Language, reading: Reading, characters: set[str]) -> set[str]:
    """Those of them with which a token can begin that the stacks can take."""
    mode, alive = reading.modes[0], set[str]()
    for scanner, stacks in mode.by_context(reading.stacks):
        places = {one: scanner.start.step(one) for one in characters}
        alive |= _taken(language, stacks, {one: place for one, place in places.items() if place})
        if mode.otherwise:
            others = {one for one, place in places.items() if place is None}
            for other, _ in _otherwise(language, reading, mode.otherwise, "") if others else ():
                alive |= _entered(language, other, others)
    return alive


def _taken(language: Language, stacks: Stacks, places: dict[str, ScanState]) -> set[str]:
    """Those of the characters that lead to a place of which the stacks can take a token."""
    wanted = 0
    for place in places.values():
        wanted |= place.bits
    free = sum(1 << terminal for terminal in language.free)
    found = free | viable(stacks, wanted & ~free)
    return {one for one, place in places.items() if place.bits & found}


def settled(language: Language, readings: Iterable[Reading]) -> Iterator[Reading]:
    """Behind the tokens that are open, where they can end here and the text can."""
    work = list(readings)
    while work:
        reading = work.pop()
        if reading.place is None:
            yield reading
        elif reading.pending or language.joins.isdisjoint(reading.accepts):
            token = (reading.accepts, reading.witness, reading.taken)
            for after, rest in _leave(language, reading, token, reading.pending, "", ""):
                work += read(language, [after], rest)


def is_whole(language: Language, readings: Iterable[Reading], *, partial: bool) -> bool:
    """Whether the text may end here."""
    behind = (reading for reading in settled(language, readings) if reading.modes[0].ends)
    return any(_may_end(language, reading, partial=partial) for reading in behind)


def _supplied(language: Language, stacks: Stacks) -> Stacks:
    for terminal in language.supplied:
        stacks = united(stacks, shift(stacks, terminal))
    return stacks


def _may_end(language: Language, reading: Reading, *, partial: bool) -> bool:
    stacks = _supplied(language, reading.stacks)
    if partial:
        stacks = united(stacks, _supplied(language, shift(stacks, language.open)))
    blocks = reading.layout.blocks
    while stacks and language.layout and blocks and blocks[1]:
        stacks, blocks = shift(stacks, language.layout[1]), blocks[1]
    return bool(stacks and shift(stacks, language.end))
