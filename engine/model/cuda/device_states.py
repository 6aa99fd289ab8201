"""The recurrent states of a GPU's rows, and how a row gets that of an earlier place.

Beside its state a slot has a ring of what its last tokens fed (`kernels.delta.memory`); copies of states lie in places
that all rows and prefixes share. Going back takes the nearest copy before that place and does again what the tokens
after it did. Where the ring no longer has that, the row's tokens are fed again, with the step's own. Copies are held by
reference; where all places are taken, the copy that was made first is given up, and whoever held it feeds more again.
Knows slots, positions and tokens. Knows no layer's order and no request.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.interfaces import FROM_DEVICE, RowInput, SampleInputs
from engine.model.architecture.shape import DeltaNet
from engine.model.kernels.delta import step
from engine.model.kernels.delta.chunks import CHUNK
from engine.model.kernels.delta.memory import TAPS, Rows, make_memory
from engine.model.kernels.delta.spans import LayerStates
from engine.model.recurrent.trail import SPACING, Feeding, missed_least

RING = 128
"""Positions of which it is kept what their tokens fed: twice the way between two copies."""
HELD = 4
"""Copies that a row holds at most; the farther back, the farther apart."""
SPARE = 8
"""Places beyond three for two slots: of stored prompts."""
NONE = 0
"""The place of the state before the first token."""
NOWHERE = 1 << 40
"""The ring has nothing."""


@dataclass(eq=False, slots=True, weakref_slot=True)
class Copied:
    """The state after `position` tokens, while it has a place."""

    position: int
    place: int | None


@dataclass(frozen=True, slots=True)
class SavedStates:
    """What a prefix needs: copies, and its tokens."""

    copies: tuple[Copied, ...]
    tokens: tuple[int, ...]
    each: int

    @property
    def nbytes(self) -> int:
        return self.each * sum(copy.place is not None for copy in self.copies)


@dataclass(slots=True)
class _Row(Feeding):
    copies: list[Copied] = field(default_factory=list)
    ring: int = 1 - TAPS
    """The first position from which on the ring has what tokens fed."""

    def upto(self, position: int) -> None:
        """Only copies that belong to the first tokens, and still have a place."""
        self.copies = [copy for copy in self.copies if copy.position <= position and copy.place is not None]

    def nearest(self, position: int) -> Copied:
        """The last copy up to there."""
        self.upto(position)
        return self.copies[-1] if self.copies else Copied(0, NONE)

    def remembers(self, base: Copied) -> bool:
        """Whether the ring has what all tokens after the copy fed, and where the copy's own inputs are written back."""
        return base.position - TAPS + 1 >= self.ring


class DeviceStates:
    """States of `slots` rows in all recurrent layers. `taps` [L, TAPS, C]. ModelError where memory does not suffice."""

    def __init__(
        self, kind: DeltaNet, taps: Tensor, *, slots: int, positions: int, dtype: torch.dtype = torch.float16
    ) -> None:
        self._taps, layers, device = taps, len(taps), taps.device
        heads, places = (kind.key_heads, kind.value_heads, kind.key_dim), 3 * slots // 2 + SPARE
        try:
            self.memory = make_memory(layers, slots, RING, heads, device, dtype)
            self._states = torch.zeros(layers, places, *self.memory.state.shape[2:], device=device)
            self._tails = torch.zeros(layers, places, TAPS - 1, taps.shape[2], device=device, dtype=dtype)
        except torch.OutOfMemoryError:
            raise ModelError(
                f"the recurrent states of {slots} requests do not fit beside the weights: lower max_batch",
                param="max_batch",
            ) from None
        self._rows = [_Row() for _ in range(slots)]
        self._copies: list[weakref.ref[Copied] | None] = [None] * places
        self._turn = NONE
        self._last = [0] * slots
        self._sampled: Sequence[int] | None = None
        """Slots whose ids are on their way."""
        self._unknown: list[tuple[int, int]] = []
        """Slots and positions that were fed what was on its way then."""
        numbers = max(positions, places, slots, RING) + 1
        self._numbers = torch.arange(numbers, dtype=torch.int32, device=device).repeat_interleave(4).view(-1, 4)
        """Any number as a tensor [1] that a kernel finds as aligned as every other."""
        self._replay = step.replay if device.type == "cuda" else step.replay_reference

    @property
    def each(self) -> int:
        """Bytes of one copy."""
        return (self._states[:, 0].numel() * 4) + self._tails[:, 0].numel() * self._tails.element_size()

    def __str__(self) -> str:
        """What it takes, for people."""
        row = sum(part[:, 0].numel() * part.element_size() for part in self.memory)
        taken, copies = row * len(self._rows), self.each * len(self._copies)
        return (
            f"recurrent state: {row / 1e6:,.1f} MB a row in {len(self._taps)} layers, with what its last {RING} tokens "
            f"fed; {len(self._rows)} rows and {len(self._copies)} copies to go back to: "
            f"{(taken + copies) / 2**30:.2f} GiB"
        )

    def layers(self) -> list[LayerStates]:
        """By recurrent layer."""
        return [LayerStates(self.memory.layer(index), self._states[index]) for index in range(len(self._taps))]

    def begin(self, rows: Sequence[RowInput]) -> list[RowInput]:
        """Let the slots' states be those at which the rows begin, or earlier: then with the tokens in between as part
        of the row."""
        return [self._begin(row) for row in rows]

    def _begin(self, row: RowInput) -> RowInput:
        reached = self.rewind(row.slot, row.position)
        held = self._rows[row.slot]
        fed = row.tokens
        missing = held.tokens[reached : row.position]
        if missing:
            row = replace(row, tokens=[*missing, *fed], position=reached)
        last = held.copies[-1].position if held.copies else 0
        if reached - last >= SPACING:
            self._hold(held, self._copy(row.slot, reached))
        held.tokens[row.position :] = [*missing, *fed]
        if fed[0] == FROM_DEVICE:
            self._learn(row.slot, len(held.tokens) - len(fed))
        held.at = None
        return row

    def _learn(self, slot: int, position: int) -> None:
        """The token there is what the slot sampled last, now or when it is known."""
        if self._sampled is not None and slot in self._sampled:
            self._unknown.append((slot, position))
        else:
            self._rows[slot].tokens[position] = self._last[slot]

    def places(self, rows: Sequence[RowInput]) -> list[int]:
        """Where each row of many tokens keeps the state before its last chunk; -1: nowhere."""
        found = []
        for row in rows:
            before = (len(row.tokens) - 1) // CHUNK * CHUNK
            found.append(-1)
            if before:
                copy = self._place(row.position + before)
                self._rows[row.slot].copies.append(copy)
                found[-1] = copy.place or NONE
        return found

    def end(self, rows: Sequence[RowInput]) -> None:
        """The rows' step is under way."""
        for row in rows:
            held = self._rows[row.slot]
            held.at = len(held.tokens)
            if held.ring == NOWHERE:  # it began anew, behind what the copy brought along
                held.ring = row.position - TAPS + 1
            held.ring = max(held.ring, held.at - RING)
            if held.copies and row.position < held.copies[-1].position < held.at:
                copy = held.copies.pop()
                self._keep_tail(copy, row.slot)
                self._hold(held, copy)

    def sampling(self, inputs: SampleInputs) -> None:
        """Ids are drawn for these rows."""
        self._sampled = tuple(inputs.slots)

    def sampled(self, ids: Sequence[int]) -> None:
        """They are known."""
        for slot, token in zip(self._sampled or (), ids, strict=True):
            self._last[slot] = token
        self._sampled = None
        for slot, position in self._unknown:
            if position < len(self._rows[slot].tokens):
                self._rows[slot].tokens[position] = self._last[slot]
        self._unknown.clear()

    def rewind(self, slot: int, position: int) -> int:
        """Let the slot's state be that after its first `position` tokens, or as near before as is still known: how
        many."""
        row = self._rows[slot]
        if row.is_at(position):
            return position
        base = row.nearest(position)
        reached = position if row.remembers(base) else base.position
        if not row.remembers(base):
            row.ring = NOWHERE
        self._return(slot, base, reached - base.position)
        row.at = reached
        return reached

    def _return(self, slot: int, base: Copied, count: int) -> None:
        """The state of a copy, and what `count` tokens after it did."""
        assert base.place is not None
        before = [base.position - TAPS + 1 + tap for tap in range(TAPS - 1)]
        for tap, position in enumerate(before):
            if position >= 0:
                self.memory.inputs[:, slot, position % RING] = self._tails[:, base.place, tap]
        source, number, own, at = (self._number(n) for n in (base.place, count, slot, base.position))
        self._replay(self._taps, self._states, source, Rows(own, number, own, at), self.memory)

    def save(self, slot: int, length: int) -> SavedStates:
        """How the state after the slot's first `length` tokens came to be, and one token before: who begins with all of
        a prompt feeds its last token."""
        row = self._rows[slot]
        made = []
        if row.at == length:
            made.append(self._copy(slot, length))
            if row.remembers(row.nearest(length - 1)):
                self.rewind(slot, length - 1)
                made.insert(0, self._copy(slot, length - 1))
            self._hold(row, made[-1])
        kept = [copy for copy in row.copies if copy.position < length - len(made)] + made
        return SavedStates(tuple(kept), tuple(row.tokens[:length]), self.each)

    def load(self, slot: int, saved: SavedStates, length: int) -> None:
        """The slot begins with the first `length` tokens of what was saved."""
        row = _Row(list(saved.tokens[:length]), copies=list(saved.copies), ring=NOWHERE)
        row.upto(length)
        self._rows[slot] = row

    def _hold(self, row: _Row, copy: Copied) -> None:
        row.upto(copy.position - 1)
        row.copies.append(copy)
        while len(row.copies) > HELD:
            del row.copies[missed_least([held.position for held in row.copies], copy.position)]

    def _copy(self, slot: int, position: int) -> Copied:
        """The slot's state as it is, which is that after so many tokens."""
        copy = self._place(position)
        assert copy.place is not None
        self._states[:, copy.place] = self.memory.state[:, slot]
        self._keep_tail(copy, slot)
        return copy

    def _keep_tail(self, copy: Copied, slot: int) -> None:
        if copy.place is not None:
            for tap in range(TAPS - 1):
                place = (copy.position - TAPS + 1 + tap) % RING
                self._tails[:, copy.place, tap] = self.memory.inputs[:, slot, place]

    def _place(self, position: int) -> Copied:
        """A place that nobody holds, or the one that has been held for longest."""
        places = list(range(self._turn + 1, len(self._copies))) + list(range(1, self._turn + 1))
        free = next((place for place in places if (held := self._copies[place]) is None or held() is None), places[0])
        held = self._copies[free]
        if held is not None and (owner := held()) is not None:
            owner.place = None
        copy = Copied(position, free)
        self._copies[free], self._turn = weakref.ref(copy), free
        return copy

    def warm(self) -> None:
        """Launch what going back takes."""
        self._return(0, Copied(0, NONE), 0)

    def _number(self, value: int) -> Tensor:
        return self._numbers[value, :1]
