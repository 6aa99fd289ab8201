"""Strings in a language, followed while they are written: where none of their continuations can be valid any more.

Knows JSON text by its cursor, and states of languages; no masks. One state a token is kept, so that taking tokens back
is dropping states. What is pushed is read only when somebody asks, while the device computes.
"""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol, Self

from engine.grammar.counting.cursor import Cursor, characters, closing_quote, finished
from engine.grammar.vocabulary.shortest_tokenization import NEVER
from engine.syntax.asked.completion import completion
from engine.syntax.asked.sized import Sized, SizedState

_LEAST_BUDGET = 64
"""Tokens that may be taken back of any value; of a longer one, half of what it has written."""
_ESCAPES = '"\\/\b\f\n\r\t'
_FAMILIES = (" !#$%&'()*+,-./:;<=>?@[]^_`{|}~", string.digits, string.ascii_lowercase, string.ascii_uppercase)
"""What a string in JSON may go on with: characters of ASCII by their kind."""
_WIDE = "éΩя中ªʰ²٣ⅷ\u0301\u0308—–«“€√🍰\u00a0\u200b\u200d\u2003\u2028\ufeff"
"""Others, some of each kind that languages tell apart."""
_LEADING = tuple(bytes([code]) for code in range(0xC2, 0xF5))
_PATIENCE = 3
"""Times that a place is gone back to before the string is ended there."""


_MOST_FOUND = 16
"""Strings before that are asked whether they tell of one."""
Path = tuple[str | int, ...]
Ways = tuple[tuple[Sized, SizedState], ...]
States = tuple[Ways, ...]
Found = tuple[int, Path, frozenset[Sized]]


class Languages(Protocol):
    """In which language the string at a path is to be written: one of each of these. `before`: what strings are.
    Where that is not `sure` the judge may ask for one of a string that none is told of."""

    sure: bool

    def at(
        self, path: Path, before: tuple[tuple[Path, frozenset[Sized]], ...] = ()
    ) -> tuple[frozenset[Sized], ...]: ...

    def may_end(self, path: Path, count: int, before: tuple[tuple[Path, frozenset[Sized]], ...]) -> bool:
        """Whether an array may end behind so many items, where more may come."""


class Dead(NamedTuple):
    """The token behind so many others, and what a token there must not begin with."""

    tokens: int
    prefix: bytes


class _Open(NamedTuple):
    """A string behind a token that leaves it open. `first`: index of the token that opened it; `states`, of the ways it
    may go on, none where it is followed no more; `cut`: the bytes of a character, or escape, that is not finished;
    `path`: where it stands, if which way it goes tells of others; `begin`: index of the first token that may be taken
    back with it, where the token that opened it closed another."""

    first: int
    states: States
    cut: bytes = b""
    path: Path | None = None
    begin: int = 0

    @property
    def whole(self) -> bool:
        return not self.cut and all(any(state.whole for _, state in ways) for ways in self.states)

    @property
    def found(self) -> frozenset[Sized]:
        """What it is where it ends here."""
        return frozenset(syntax for ways in self.states for syntax, state in ways if state.whole)

    def dead(self, characters: str) -> set[str]:
        """Those of the characters that it cannot go on with."""
        by_group = (set.intersection(*(way.dead(characters) for _, way in ways)) for ways in self.states)
        return set[str]().union(*by_group)

    def completed(self, least: int = 0) -> bytes | None:
        """With what it is valid, as short as is known but of so many characters at least."""
        found = ((completion(way.state), way) for ways in self.states for _, way in ways if not self.cut)
        long = (text.ljust(max(least, way.least)) for text, way in found if text is not None)
        texts = sorted({json.dumps(text, ensure_ascii=False)[1:-1] for text in long})
        fed = (text.encode() for text in sorted(texts, key=len))
        return next((text for text in fed if (after := self.feed(text)) is not None and after.whole), None)

    def feed(self, piece: bytes) -> _Open | None:
        """Behind some more of it; None: it cannot become valid."""
        text, cut = finished(self.cut + piece)
        if not text:
            return self._replace(cut=cut)
        states = tuple(_living(ways, text) for ways in self.states)
        return self._replace(states=states, cut=cut) if all(states) else None


def _living(ways: Ways, text: str) -> Ways:
    return tuple((syntax, state) for syntax, way in ways if (state := way.feed(text)).alive)


class FollowedStrings:
    """Of one document."""

    def __init__(self, languages: Languages) -> None:
        self._languages = languages
        self._read: list[_Open | None] = []
        """Behind each token."""
        self._new: list[tuple[Cursor, bytes]] = []
        """Tokens that have not been read, and where the document stood before each."""
        self._spent, self._spent_on = 0, -1
        self._times, self._times_at = 0, -1
        """How often in a row a place has been gone back to, and which."""
        self._let_go = -1
        """Index of the token that opened the string which is followed no more."""
        self._found: list[Found] = []
        """By the index of the token that closed it, what a string is that might have been something else."""
        self._unjudged: list[tuple[int, int]] = []
        """By the index of the token that closed it, where a string begins that nobody has judged."""
        self._sure_to = NEVER
        """Index of the first token of a string of which it is not sure whether it is in a language."""

    def push(self, before: Cursor, text: bytes) -> None:
        """One more token."""
        self._new.append((before, text))

    def pop(self, count: int) -> None:
        """The last tokens are taken back."""
        unread = min(count, len(self._new))
        del self._new[len(self._new) - unread :]
        del self._read[len(self._read) - (count - unread) :]
        if self._let_go >= len(self._read):
            self._let_go = -1
        self._forget()

    def _forget(self) -> None:
        """What is told of strings that no token has closed."""
        for told in (self._found, self._unjudged):
            while told and told[-1][0] >= len(self._read):
                told.pop()
        if self._sure_to >= len(self._read):
            self._sure_to = NEVER

    def fork(self) -> Self:
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy._read, copy._new, copy._found = list(self._read), list(self._new), list(self._found)
        copy._unjudged = list(self._unjudged)
        return copy

    def settle(self) -> Dead | None:
        """Read what is new, up to the first token behind which a string cannot become valid."""
        while self._new:
            before, text = self._new[0]
            found = self._ended_too_early(before, text, self._behind(before, text))
            if isinstance(found, Dead):
                return found
            self._read.append(found)
            del self._new[0]
        return None

    @property
    def open(self) -> int | None:
        """Index of the token that opened the followed string; None outside of all."""
        here = self._read[-1] if self._read else None
        return None if here is None else here.first

    def dead_beginnings(self, like: bytes, *, escapes: bool) -> list[bytes]:
        """What the open string cannot go on with: that, and where it is a character all of its kind that are dead too.
        With `escapes` those too. Half a millisecond."""
        here = self._read[-1] if self._read else None
        if here is None or here.cut:
            return [like]
        kin = next((kind for kind in _FAMILIES if len(like) == 1 and chr(like[0]) in kind), "")
        groups = {_WIDE: _LEADING if like[0] >= 0x80 else (), _ESCAPES: (b"\\",) if escapes else ()}
        dead = here.dead("".join([kin, *(group for group, whole in groups.items() if whole)]))
        found = [like, *(one.encode() for one in kin if one in dead)]
        for group, whole in groups.items():  # what is left of dead escapes are characters that can be written plainly
            found += whole if dead.issuperset(group) else ()
        return found

    def completion(self, dead: bytes) -> bytes | None:
        """With what the open string ends here, where one that went on with `dead` wanted its end, or has been tried
        often enough: that without its quote, and what it needs behind it. Half a
        millisecond; None where that is not known."""
        here = self._read[-1] if self._read else None
        self._times = self._times + 1 if self._times_at == len(self._read) else 1
        self._times_at = len(self._read)
        ends = here is not None and closing_quote(dead, 0, here.cut) == len(dead) - 1
        if here is None or not (ends or self._times == _PATIENCE):
            return None
        wanted = dead[:-1] if ends else b""
        begun = here.feed(wanted)
        rest = None if begun is None else begun.completed()
        return None if rest is None else wanted + rest

    @property
    def goes_on(self) -> bool:
        """Whether the last token went on with a followed string, and left it open."""
        return not self._new and self.open not in (None, len(self._read) - 1)

    @property
    def held_from(self) -> int:
        """So many tokens stay as they are, whatever comes: those before strings that are open, or not judged."""
        unread = next((at for at, (_, text) in enumerate(self._new) if b'"' in text), len(self._new))
        here = self._read[-1] if self._read else None
        first = len(self._read) + unread if here is None else here.begin
        return min([first, self._sure_to, *(begin for _, begin in self._unjudged)])

    def judged(self) -> None:
        """The strings that have closed stay as they are."""
        self._unjudged.clear()

    @property
    def last_whole(self) -> int | None:
        """So many tokens of the document end where the open string was valid last; None where it never was."""
        first = self.open
        if first is None:
            return None
        for tokens in range(len(self._read), first, -1):
            here = self._read[tokens - 1]
            if here is not None and here.states and here.whole:
                return tokens
        return None

    def spend(self, count: int) -> bool:
        """Whether so many of the last tokens may be taken back; they count."""
        first = self._opened_at(len(self._read))
        if first != self._spent_on:
            self._spent, self._spent_on = 0, first
        self._spent += count
        return self._spent <= max(_LEAST_BUDGET, (len(self._read) - first) // 2)

    def renew(self) -> None:
        """The string is written again."""
        self._spent = 0

    def let_go(self) -> int:
        """The open string, or what the next token opens, is followed no more; index of the token that opens it."""
        self._let_go = self._opened_at(len(self._read))
        if self._let_go < len(self._read) and (here := self._read[-1]) is not None:
            self._read[-1] = here._replace(states=())
        return self._let_go

    def filled(self, cursor: Cursor, ending: bytes) -> bytes:
        """This ending of the document, with short valid texts where it would leave followed strings that are not. The
        open string is left as it is where its last tokens have not been read."""
        here, at, written = None if self._new or not self._read else self._read[-1], 0, b""
        index, found = len(self._read), list(self._found)
        while True:
            if here is None:
                begin = at
                here, cursor, at = self._next(index, cursor, ending, at, found)
                written += ending[begin:at]
                if here is None:
                    return written
            close = closing_quote(ending, at, here.cut)
            piece = _whole(here.states, here.cut, ending[at:close]) or ending[at:close]
            _note(found, index, here.feed(piece))
            written += piece + ending[close : close + 1]
            cursor, at, here = cursor.read(ending[at : close + 1]), close + 1, None

    def closes(self, ending: bytes) -> bool:
        """Whether the open string, all of whose tokens are read, is valid behind what that ending writes of it, or as
        many other characters."""
        here = self._read[-1] if self._read else None
        if here is None:
            return True
        return _whole(here.states, here.cut, ending[: closing_quote(ending, 0, here.cut)]) is not None

    def _opened_at(self, index: int) -> int:
        here = self._read[index - 1] if index else None
        return index if here is None else here.first

    def _behind(self, cursor: Cursor, text: bytes) -> _Open | Dead | None:
        """What is open behind a token."""
        index, at = len(self._read), 0
        here = self._read[-1] if self._read else None
        self._forget()
        while True:
            if here is None:
                here, cursor, at = self._next(index, cursor, text, at, self._found)
                if here is None:
                    return None
            close = closing_quote(text, at, here.cut)
            fed = here.feed(text[at:close])
            if fed is None:
                return Dead(index, text[:at] + _shortest_dead(here, text[at:close]))
            if close == len(text):
                return fed
            if not fed.whole:
                return Dead(index, text[: close + 1])
            _note(self._found, index, fed)
            self._unjudged.append((index, here.begin))
            cursor, at, here = cursor.read(text[at : close + 1]), close + 1, None

    def _ended_too_early(self, cursor: Cursor, text: bytes, found: _Open | Dead | None) -> _Open | Dead | None:
        """What has been found behind a token, unless it ends an array that must have more items by what its strings
        are."""
        at, end = 0, text.find(b"]")
        while end >= 0 and self._found and not isinstance(found, Dead):
            cursor, at = cursor.read(text[at:end]), end
            frame = cursor.frame
            if not cursor.in_string and frame is not None and frame.keys is None:
                before = self._told(self._found)
                if not self._languages.may_end(_path(cursor)[:-1], frame.count, before):
                    return Dead(len(self._read), text[: end + 1])
            end = text.find(b"]", at + 1)
        return found

    @staticmethod
    def _told(found: Sequence[Found]) -> tuple[tuple[Path, frozenset[Sized]], ...]:
        return tuple((place, syntaxes) for _, place, syntaxes in found[-_MOST_FOUND:])

    def _next(
        self, index: int, cursor: Cursor, text: bytes, at: int, found: Sequence[Found]
    ) -> tuple[_Open | None, Cursor, int]:
        """Behind `at`, outside of all: the followed string that is opened next, and the document and place behind its
        quote; None and the end of the text where there is none."""
        while (quote := text.find(b'"', at)) >= 0:
            was_inside, cursor, at = cursor.in_string, cursor.read(text[at : quote + 1]), quote + 1
            if cursor.in_string and not was_inside and not cursor.is_key:
                here = self._opened(index, cursor, found)
                if here is not None:
                    return here, cursor, at
        return None, cursor, len(text)

    def _opened(self, index: int, cursor: Cursor, found: Sequence[Found]) -> _Open | None:
        outer = self._read[index - 1] if index else None
        begin = index if outer is None else outer.begin
        if index == self._let_go:
            return _Open(index, (), begin=begin)
        path = _path(cursor)
        states = _begun(self._languages.at(path, self._told(found)))
        if not self._languages.sure:
            self._sure_to = min(self._sure_to, begin)
        ways = any(len(ways) > 1 for ways in states)
        return _Open(index, states, path=path if ways else None, begin=begin) if states else None


def _note(found: list[Found], index: int, ended: _Open | None) -> None:
    """Keep what a string is that a token ends."""
    if ended is not None and ended.path is not None:
        found.append((index, ended.path, ended.found))


@lru_cache(maxsize=256)
def _begun(asked: tuple[frozenset[Sized], ...]) -> States:
    return tuple(tuple((syntax, syntax.start()) for syntax in ways) for ways in asked)


@lru_cache(maxsize=1024)
def _whole(states: States, cut: bytes, piece: bytes) -> bytes | None:
    """The piece that ends a string, or another as long at least, behind which it is valid, where one is known."""
    here = _Open(0, states, cut)
    fed = here.feed(piece)
    return piece if fed is not None and fed.whole else here.completed(characters(piece)[0])


def _shortest_dead(here: _Open, piece: bytes) -> bytes:
    """The beginning of a piece behind which a string is dead."""
    for end in range(1, len(piece)):
        fed = here.feed(piece[end - 1 : end])
        if fed is None:
            return piece[:end]
        here = fed
    return piece


def _path(cursor: Cursor) -> Path:
    """Of the value that begins here."""
    frame, found = cursor.frame, list[str | int]()
    while frame is not None:
        found.append(frame.count - 1 if frame.keys is None else frame.last or "")
        frame = frame.outside
    return tuple(reversed(found))
