"""The shortest legal ending of a document, followed token by token. Knows places and token costs; not the matcher.

While the cheap bound of the place fits the budget a step costs a few dictionary lookups; only near the budget is the
ending spelled out and cut into the fewest tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from engine.grammar.allowance import Allowance
from engine.grammar.pushdown import LostWay, Place, Pushdown
from engine.grammar.runaway import Runaway
from engine.grammar.segment import NEVER, Segmenter
from engine.grammar.shortest import Shortest
from engine.grammar.symbols import Symbols
from engine.schema.grammar import Grammar

_TRIED_STACKS = 8
_TRIED_BYTES = 1_000
_STEPS = 100
_STEPS_AT_START = 1_500


class Closer:
    """Per grammar: its pushdown tables and the vocabulary. Shared by all matchers."""

    def __init__(
        self, grammar: Grammar, segmenter: Segmenter, stop_token_id: int, allowance: Allowance | None = None
    ) -> None:
        self._segmenter = segmenter
        self._stop = stop_token_id
        self._symbols = Symbols(grammar, segmenter)
        self.pushdown = Pushdown(self._symbols, allowance)

    @property
    def productive(self) -> bool:
        """Whether the grammar derives any text at all."""
        return self._symbols.root.best is not None

    def remember(self, shortest: tuple[int, ...]) -> None:
        """The ending of the empty document, stop token last, which an earlier search has found. Saves 10-20 ms."""
        self.pushdown.start.ending = shortest
        self.pushdown.start.searched = True

    def ending(self, place: Place, limit: int = NEVER) -> tuple[int, ...] | None:
        """Tokens that end the document from here, stop token last. 20-500 microseconds, then remembered.

        Where that is more than `limit`, 1-2 ms more (10-20 for a whole document) are spent once on tokens that span the
        grammar's parts.
        """
        if place.ending is None:
            place.ending = self._shortest(place)
        if len(place.ending) > limit and not place.searched:
            place.ending = self._improved(place, place.ending)
            place.searched = True  # last: another thread must not take the unimproved ending for the searched one
        return place.ending or None

    def _improved(self, place: Place, ending: tuple[int, ...]) -> tuple[int, ...]:
        steps = _STEPS_AT_START if place is self.pushdown.start else _STEPS
        search = Shortest(self.pushdown, self._segmenter, steps)
        try:
            better = search.below(place, len(ending) - 1) if len(ending) > 2 else None
        except LostWay:
            return ending
        return ending if better is None else (*better, self._stop)

    def _shortest(self, place: Place) -> tuple[int, ...]:
        best: tuple[int, ...] | None = None
        tried = 0
        for stack in sorted(place.stacks, key=lambda s: (s.tokens, s.size))[:_TRIED_STACKS]:
            if best is not None and tried + stack.size > _TRIED_BYTES:
                break
            tried += stack.size
            text = stack.text()
            pieces = None if text is None else self._segmenter.cut(text)
            if pieces is not None and (best is None or len(pieces) < len(best)):
                best = pieces
        return () if best is None else (*best, self._stop)


class Track:
    """One document's way through the tables: the place after every token, so that tokens can be taken back."""

    __slots__ = ("_closer", "_embedded", "_places", "_runaway", "alive")

    def __init__(self, closer: Closer, runaway: Runaway | None = None, *, embedded: bool = False) -> None:
        """`runaway` guards the values of JSON: of the whole text, or of the documents in it (`embedded`)."""
        self._closer = closer
        self._embedded = embedded
        self._places = [closer.pushdown.start]
        self._runaway = runaway
        self.alive = True
        """False once the way was lost; then something else must find endings."""

    @property
    def place(self) -> Place:
        return self._places[-1]

    def push(self, text: bytes) -> None:
        """Follow one token's bytes (none for a stop token)."""
        before = place = self._places[-1]
        if self.alive:
            try:
                place = self._closer.pushdown.run(place, text)
            except LostWay:
                self.alive = False
        if self._runaway is not None:
            self._runaway.push(self._document_part(before, place, text) if self._embedded else text)
        self._places.append(place)

    def _document_part(self, before: Place, after: Place, text: bytes) -> bytes | None:
        """What of a token belongs to the JSON document that it stands in afterwards; None where it stands in none."""
        if not after.embedded:
            return None
        start = 0
        while not before.embedded and start < len(text):
            before = self._closer.pushdown.run(before, text[start : start + 1])
            start += 1
        return text[max(start - 1, 0) :]

    def refused(self, legal: Callable[[], Iterable[tuple[int, bytes]]]) -> tuple[int, ...]:
        """Inside a character, the `legal` tokens (id, bytes) after which no stack is left; elsewhere none.

        XGrammar judges a character when it is complete and may show more than can follow; how much more depends on how
        it holds the rule, so that what one mask showed too much says nothing of another, even at the same place.
        """
        place = self._places[-1]
        if not self.alive or not place.inside:
            return ()
        first, run = place.first_bytes(), self._closer.pushdown.run
        try:
            return tuple(
                token for token, text in legal() if text and not (first >> text[0] & 1 and run(place, text).stacks)
            )
        except LostWay:
            return ()

    def pop(self, count: int) -> None:
        """Forget the last tokens. A lost way stays lost."""
        del self._places[len(self._places) - count :]
        if self._runaway is not None:
            self._runaway.pop(count)

    def fork(self) -> Track:
        copy = object.__new__(Track)
        copy._closer, copy._places, copy.alive = self._closer, list(self._places), self.alive
        copy._embedded = self._embedded
        copy._runaway = self._runaway and self._runaway.fork()
        return copy

    def forced(self) -> bytes:
        """Bytes without choice; none once the way was lost."""
        if not self.alive:
            return b""
        try:
            return self._closer.pushdown.forced(self._places[-1])
        except LostWay:
            return b""

    @property
    def over(self) -> bool:
        """Whether some value has run away: it should be closed now."""
        return self._runaway is not None and self._runaway.over

    def ending(self, limit: int) -> tuple[int, ...] | None:
        return self._closer.ending(self._places[-1], limit)
