"""The shortest legal ending of a document, followed token by token. Knows positions and token costs; not the matcher.

While the cheap bound of the place fits the budget a step costs a few dictionary lookups; only near the budget is the
ending spelled out and cut into the fewest tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from engine.config import Limits
from engine.grammar.endings.fewest_tokens import Shortest
from engine.grammar.endings.least_cost import least_cost
from engine.grammar.endings.least_text import least_text
from engine.grammar.endings.position import Position, follow, followed, forced, fresh
from engine.grammar.endings.unused import slack
from engine.grammar.pieces import Pieces
from engine.grammar.pushdown.byte_grammar import Nonterminal, Symbols
from engine.grammar.pushdown.pushdown import LostWay, Pushdown
from engine.grammar.shared.shared_rules import SharedRules
from engine.grammar.shared.table_budget import TableBudget
from engine.grammar.vocabulary.shortest_tokenization import NEVER, Segmenter
from engine.schema.rules.grammar import Grammar

_TRIED_STACKS = 8
_TRIED_BYTES = 1_000
_STEPS = 100
_STEPS_AT_START = 1_500
_FOLLOWED = 4_000
"""Bytes of an ending that are followed through the guards once more; of a long one that takes as long as writing it."""


_PIECE, _STRIDE, _NEW = 400, 16, 4
"""Bytes times ways that are followed in a piece, and between two looks at how many ways there are. Where there are
several, a byte mostly leads to a place that is still to be made of them all, which is that much more work."""


class CompletionTable:
    """Per grammar: its pushdown tables and the vocabulary. Shared by all matchers."""

    def __init__(
        self,
        grammar: Grammar,
        segmenter: Segmenter,
        stop_token_id: int,
        allowance: TableBudget | None = None,
        known: SharedRules | None = None,
    ) -> None:
        """`known`: see `Symbols`."""
        self._segmenter = segmenter
        self._stop = stop_token_id
        self._symbols = Symbols(grammar, segmenter, known or SharedRules(allowance))
        self.pushdown = Pushdown(self._symbols, allowance)

    @property
    def rules(self) -> Sequence[Nonterminal]:
        return self._symbols.rules

    @property
    def productive(self) -> bool:
        """Whether the grammar derives any text at all."""
        return self._symbols.root.best is not None

    @property
    def start(self) -> Position:
        """Where every document begins."""
        place = self.pushdown.start
        return Position(place, place, fresh(self.pushdown))

    def remember(self, shortest: tuple[int, ...]) -> None:
        """The ending of the empty document, stop token last, which an earlier search has found. Saves 10-20 ms."""
        self.pushdown.start.ending = shortest
        self.pushdown.start.searched = True

    def ending(self, at: Position, limit: int = NEVER) -> Pieces[tuple[int, ...] | None]:
        """In pieces: tokens that end the document from here, stop token last. 20-500 microseconds, then remembered
        where nothing that was counted matters.

        Where that is more than `limit`, 1-2 ms more (10-20 for a whole document) are spent once on tokens that span the
        grammar's parts.
        """
        place = at.place
        counted = self.pushdown.guarded and place is not self.pushdown.start
        ending = None if counted else place.ending
        if ending is None:
            ending = yield from self._shortest(at)
        if len(ending) > limit and (counted or not place.searched):
            ending = yield from self._improved(at, ending)
            if not counted:
                place.ending = ending
                place.searched = True  # last: another thread must not take the unimproved ending for the searched one
        elif not counted:
            place.ending = ending
        return ending or None

    def bound(self, at: Position) -> int:
        """Tokens within which the document can end, by what has been counted. 1-100 microseconds."""
        costs, cheapest = self.pushdown.costs, sorted(at.place.stacks, key=lambda s: s.tokens)[:_TRIED_STACKS]
        return min((least_cost(stack, at.cursor, costs) for stack in cheapest), default=NEVER)

    def _improved(self, at: Position, ending: tuple[int, ...]) -> Pieces[tuple[int, ...]]:
        steps = _STEPS_AT_START if at.place is self.pushdown.start else _STEPS
        search = Shortest(self.pushdown, self._segmenter, steps)
        try:
            better = (yield from search.below(at, len(ending) - 1)) if len(ending) > 2 else None
        except LostWay:
            return ending
        return ending if better is None else (*better, self._stop)

    def _shortest(self, at: Position) -> Pieces[tuple[int, ...]]:
        best: tuple[int, ...] | None = None
        tried = 0
        for stack in sorted(at.place.stacks, key=lambda s: (s.tokens, s.size))[:_TRIED_STACKS]:
            if best is not None and tried + stack.size > _TRIED_BYTES:
                break
            tried += stack.size
            text = (yield from least_text(stack, at.cursor)) if self.pushdown.guarded else stack.text()
            pieces = None if text is None else (yield from self._segmenter.cutting(text))
            if pieces is not None and (best is None or len(pieces) < len(best)):
                best = pieces
        return () if best is None else (*best, self._stop)


class DocumentCursor:
    """One document's way through the tables: the position after every token, so that tokens can be taken back."""

    __slots__ = ("_completions", "_limits", "_positions", "alive")

    def __init__(self, completions: CompletionTable, limits: Limits) -> None:
        self._completions = completions
        self._limits = limits
        self._positions = [completions.start]
        self.alive = True
        """False once the way was lost; then something else must find endings."""

    @property
    def at(self) -> Position:
        """Where the document stands."""
        return self._positions[-1]

    def push(self, text: bytes, *, legal: bool = False) -> None:
        """Follow one token's bytes (none for a stop token); without a look ahead where it is known to be `legal`."""
        at = self._positions[-1]
        if self.alive:
            try:
                at = (followed if legal else follow)(self._completions.pushdown, at, text)
            except LostWay:
                self.alive = False
        if not self.alive and at.place.in_document:
            at = at._replace(cursor=at.cursor.read(text))
        self._positions.append(at)

    def refused(self, legal: Callable[[], Iterable[tuple[int, bytes]]]) -> tuple[int, ...]:
        """Inside a character, the `legal` tokens (id, bytes) after which no stack is left; elsewhere none.

        XGrammar judges a character when it is complete and may show more than can follow; how much more depends on how
        it holds the rule, so that what one mask showed too much says nothing of another, even at the same place.
        """
        place = self._positions[-1].wide
        if not self.alive or not place.inside:
            return ()
        first, run = place.first_bytes(), self._completions.pushdown.run
        try:
            return tuple(
                token for token, text in legal() if text and not (first >> text[0] & 1 and run(place, text).stacks)
            )
        except LostWay:
            return ()

    def pop(self, count: int) -> None:
        """Forget the last tokens. A lost way stays lost."""
        del self._positions[len(self._positions) - count :]

    def fork(self) -> DocumentCursor:
        copy = object.__new__(DocumentCursor)
        copy._completions, copy._positions, copy.alive = self._completions, list(self._positions), self.alive
        copy._limits = self._limits
        return copy

    def forced(self) -> bytes:
        """Bytes without choice; none once the way was lost."""
        if not self.alive:
            return b""
        try:
            return forced(self._completions.pushdown, self._positions[-1])
        except LostWay:
            return b""

    @property
    def bound(self) -> int:
        """Tokens within which the document can end, the stop token excluded; NEVER once the way was lost.

        Cheap: where keys must be written that may be there already, each is taken to clash with all that can be.
        """
        place = self.at.place
        if not self.alive:
            return NEVER
        tokens = place.tokens
        if self._completions.pushdown.distinct:
            tokens = min(NEVER, tokens + slack(place, self.at.cursor))
        return tokens + self._for_clashes() if place.keys else tokens

    def _for_clashes(self) -> int:
        """Tokens by which the keys that must be written may have to be longer."""
        keys, cursor = self.at.place.keys, self.at.cursor
        clashes = keys
        for _ in range(1 + self.at.place.depth):
            frame = cursor.frame
            while frame is not None:
                clashes, frame = clashes + len(frame.keys or ()), frame.outside
            cursor = cursor.inner
        return keys * clashes * self._completions.pushdown.longer

    def counted_bound(self) -> int:
        """The same by what has been counted, where guards ask and no items must differ; up to 0.1 ms."""
        pushdown = self._completions.pushdown
        if not self.alive or not pushdown.guarded:
            return self.bound
        return NEVER if pushdown.distinct else min(NEVER, self._completions.bound(self.at) + self._for_clashes())

    @property
    def over(self) -> bool:
        """Whether some value has run away: it should be closed now."""
        return self.at.cursor.over(self._limits)

    def ends(self, text: bytes) -> Pieces[tuple[int, ...] | None]:
        """In pieces: the marks in these bytes, `Position.marks`; None where they do not end the document, by the
        guards. Where nothing is asked, nobody knows better."""
        pushdown = self._completions.pushdown
        if not (self.alive and pushdown.guarded) or (len(text) > _FOLLOWED and not pushdown.marked):
            return ()
        at, marks, start, work = self.at, list[int](), 0, 0
        while start < len(text):
            end = start + max(1, _STRIDE // max(1, len(at.place.stacks)))
            try:
                at = followed(pushdown, at, text[start:end])
            except LostWay:
                return ()
            marks += [start + mark for mark in at.marks]
            ways = len(at.place.stacks)
            work += (end - start) * (ways if ways <= 1 else _NEW * ways)
            start = end
            if work >= _PIECE:
                work = 0
                yield
        return tuple(marks) if at.place.completed else None

    def ending(self, limit: int) -> Pieces[tuple[int, ...] | None]:
        """See `CompletionTable.ending`."""
        return self._completions.ending(self._positions[-1], limit)
