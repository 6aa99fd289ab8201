"""The recurrent states of a GPU's rows, and how a row gets that of an earlier place.

Beside its state a slot has a ring of what its last tokens fed (`kernels.delta.memory`), of two pages; a page that it is
about to lose is copied to one of those behind the rings, and copies of states lie in places of their own. All rows and
prefixes share both, bounded by bytes. Going back takes the nearest copy before that place and does again what the
tokens after it did. Where that is no longer known, the row's tokens are fed again, with the step's own.
Knows slots, positions and tokens. Knows no layer's order and no request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.interfaces import FROM_DEVICE, RowInput, SampleInputs
from engine.model.architecture.shape import DeltaNet
from engine.model.kernels.delta import step
from engine.model.kernels.delta.chunks import CHUNK
from engine.model.kernels.delta.memory import TAPS, DeltaMemory, Rows, Way
from engine.model.kernels.delta.spans import LayerStates
from engine.model.recurrent.places import Placed, Places
from engine.model.recurrent.trail import SPACING, Feeding, missed_least

PAGE = 64
RING = 2 * PAGE
"""Positions of which a slot keeps what their tokens fed: twice the way between two copies."""
PAGES = 64
"""Pages behind the rings, where rows can fill so many: 2.4 GB at the size of Qwen3-Coder-Next."""
HELD = 8
"""Copies that a row holds at most, of many rows each fewer: of eight so many, and pages, that any of a row's last 500
tokens is at most 127 from a copy and nothing is fed again."""
LEAST = 2
SPARE, STORED = 24, 7
"""Places beyond one a slot, and those of them that are for stored prompts: the fewest there are."""
SHARE = 16
"""Pages, and places beyond the fewest, take up to one of so many parts of the memory that is free."""
NONE = 0
"""The place of the state before the first token."""
NOWHERE = 1 << 40
"""The ring has nothing."""


@dataclass(frozen=True, slots=True)
class SavedStates:
    """What a prefix needs: copies, and its tokens."""

    copies: tuple[Placed, ...]
    tokens: tuple[int, ...]
    each: int

    @property
    def nbytes(self) -> int:
        return self.each * sum(copy.place is not None for copy in self.copies)


@dataclass(slots=True)
class _Row(Feeding):
    copies: list[Placed] = field(default_factory=list)
    pages: dict[int, Placed] = field(default_factory=dict)
    """By number, counted from the row's first position: all that its tokens fed."""
    first: int = NOWHERE
    """The ring has what tokens fed from there on."""
    last: int = 0
    """And up to there."""

    def upto(self, position: int) -> None:
        """Only copies that belong to the first tokens, and still have a place."""
        self.copies = [copy for copy in self.copies if copy.position <= position and copy.place is not None]

    def nearest(self, position: int) -> Placed:
        """The last copy up to there."""
        self.upto(position)
        return self.copies[-1] if self.copies else Placed(0, NONE)

    def paged(self, number: int) -> int | None:
        """Where that page was copied to, if it was and is still there."""
        page = self.pages.get(number)
        return None if page is None else page.place

    def remembers(self, start: int, stop: int) -> bool:
        """Whether it is known what the tokens from `start` up to `stop` fed."""
        return all(
            self.paged(number) is not None
            or (self.first <= max(start, PAGE * number) and min(stop, PAGE * number + PAGE) <= self.last)
            for number in range(start // PAGE, -(-stop // PAGE))
        )


class DeviceStates:
    """States of `slots` rows in all recurrent layers. `taps` [L, TAPS, C]. ModelError where memory does not suffice."""

    def __init__(
        self, kind: DeltaNet, taps: Tensor, *, slots: int, positions: int, free: int = 1 << 40,
        dtype: torch.dtype = torch.float16,
    ) -> None:  # fmt: skip
        """`free`: bytes of the device's memory."""
        self._taps, layers, device = taps, len(taps), taps.device
        heads, state = (kind.key_heads, kind.value_heads, kind.key_dim), 4 * kind.value_heads * kind.key_dim**2
        token = taps.shape[2] * dtype.itemsize + 8 * kind.value_heads
        pages, spare = (free // (SHARE * layers * each) for each in (PAGE * token, state))
        pages = max(1, min(PAGES, slots * -(-positions // PAGE), pages))
        places = slots + max(min(STORED, SPARE), min(SPARE, spare))
        try:
            self.memory, self._inputs, self._gates = _paged_memory(layers, slots, pages, heads, device, dtype)
            self._states = torch.zeros(layers, places, *self.memory.state.shape[2:], device=device)
            self._tails = torch.zeros(layers, places, TAPS - 1, taps.shape[2], device=device, dtype=dtype)
        except torch.OutOfMemoryError:
            raise ModelError(
                f"the recurrent states of {slots} requests do not fit beside the weights: lower max_batch",
                param="max_batch",
            ) from None
        self._rows = [_Row() for _ in range(slots)]
        self._copies, self._pages = Places(NONE + 1, places), Places(2 * slots, 2 * slots + pages)
        self._most, self._window = HELD, PAGE * len(self._pages)
        self._last = [0] * slots
        self._sampled: Sequence[int] | None = None
        """Slots whose ids are on their way."""
        self._unknown: list[tuple[int, int]] = []
        """Slots and positions that were fed what was on its way then."""
        numbers = max(positions, places, 2 * slots + pages, RING) + 1
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
        copies, tokens = len(self._copies) + 1, PAGE * len(self._pages)
        page = sum(part[:, 0].numel() * part.element_size() for part in (self._inputs, self._gates))
        taken = row * len(self._rows) + self.each * copies + page * len(self._pages)
        return (
            f"recurrent state: {row / 1e6:,.1f} MB a row in {len(self._taps)} layers, with what its last {RING} tokens "
            f"fed; {len(self._rows)} rows, {copies} copies to go back to and what {tokens:,} earlier tokens fed: "
            f"{taken / 2**30:.2f} GiB"
        )

    def layers(self) -> list[LayerStates]:
        """By recurrent layer."""
        return [LayerStates(self.memory.layer(index), self._states[index]) for index in range(len(self._taps))]

    def begin(self, rows: Sequence[RowInput]) -> list[RowInput]:
        """Let the slots' states be those at which the rows begin, or earlier: then with the tokens in between as part
        of the row."""
        share = max(1, len(rows))
        self._most = max(LEAST, min(HELD, (len(self._copies) - STORED) // share))
        self._window = PAGE * max(1, len(self._pages) // share)
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
        self._turn_pages(row.slot, reached, len(held.tokens))
        held.at = None
        return row

    def _turn_pages(self, slot: int, start: int, stop: int) -> None:
        """What is fed from `start` up to `stop` goes into the ring: pages that are whole and will not be are copied."""
        row, lost = self._rows[slot], stop - RING
        for number in range(-(-row.first // PAGE), start // PAGE):
            if PAGE * number < lost and row.paged(number) is None:
                row.pages[number] = self._pages.take(PAGE * number)
                self._copy_page(2 * slot + number % 2, row.pages[number].place or 0)
        row.first, row.last = max(row.first, lost), stop

    def _copy_page(self, source: int, target: int) -> None:
        for part in (self._inputs, self._gates):
            part[:, target] = part[:, source]

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
                copy = self._copies.take(row.position + before)
                self._rows[row.slot].copies.append(copy)
                found[-1] = copy.place or NONE
        return found

    def end(self, rows: Sequence[RowInput]) -> None:
        """The rows' step is under way."""
        for row in rows:
            held = self._rows[row.slot]
            held.at = len(held.tokens)
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
        reached = position if row.remembers(base.position, position) else base.position
        if reached:
            self._return(slot, base, reached)
        else:
            self.memory.state[:, slot] = 0  # as most rows begin
        self._fill_ring(slot, base, reached)
        row.at = reached
        return reached

    def _return(self, slot: int, base: Placed, reached: int) -> None:
        """The state of a copy, and what the tokens after it did."""
        assert base.place is not None
        row, start = self._rows[slot], base.position // PAGE
        numbers = range(start, max(start + 1, -(-reached // PAGE)))
        pages = [2 * slot + number % 2 if (page := row.paged(number)) is None else page for number in numbers]
        table = torch.cat([self._number(page) for page in pages]).unsqueeze(0)
        source, count, own, at = (self._number(n) for n in (base.place, reached - base.position, slot, base.position))
        way = Way(self._states, self._tails, source, self._inputs, self._gates, table)
        self._replay(self._taps, way, Rows(own, count, own, at), self.memory)

    def _fill_ring(self, slot: int, base: Placed, reached: int) -> None:
        """The ring has what the last tokens up to there fed, as far as that is known; of those before a copy it has
        what the next convolutions read."""
        row, last, begin = self._rows[slot], (reached - 1) // PAGE, base.position - TAPS + 1
        joins = reached <= row.last or (reached == base.position and begin <= row.last)
        first = max(row.first, reached - RING) if row.first <= reached and joins else reached
        for number in (last, last - 1):
            page = row.paged(number)
            if page is not None and PAGE * number < first <= PAGE * number + PAGE:
                self._copy_page(page, 2 * slot + number % 2)
                first = PAGE * number
        for tap, position in enumerate(range(begin, base.position)):
            if position >= max(0, reached - TAPS + 1):
                self.memory.inputs[:, slot, position % RING] = self._tails[:, base.place, tap]
        row.first, row.last = min(first, reached - TAPS + 1), reached
        row.pages = {number: page for number, page in row.pages.items() if PAGE * number + PAGE <= reached}

    def save(self, slot: int, length: int) -> SavedStates:
        """How the state after the slot's first `length` tokens came to be, and one token before: who begins with all of
        a prompt feeds its last token."""
        row = self._rows[slot]
        made = []
        if row.at == length:
            made.append(self._copy(slot, length))
            if row.remembers(row.nearest(length - 1).position, length - 1):
                self.rewind(slot, length - 1)
                made.insert(0, self._copy(slot, length - 1))
            self._hold(row, made[-1])
        kept = [copy for copy in row.copies if copy.position < length - len(made)] + made
        return SavedStates(tuple(kept), tuple(row.tokens[:length]), self.each)

    def load(self, slot: int, saved: SavedStates, length: int) -> None:
        """The slot begins with the first `length` tokens of what was saved."""
        row = _Row(list(saved.tokens[:length]), copies=list(saved.copies))
        row.upto(length)
        self._rows[slot] = row

    def _hold(self, row: _Row, copy: Placed) -> None:
        row.upto(copy.position - 1)
        row.copies.append(copy)
        while len(row.copies) > self._most:
            positions = [held.position for held in row.copies]
            del row.copies[missed_least(positions, copy.position, self._window)]

    def _copy(self, slot: int, position: int) -> Placed:
        """The slot's state as it is, which is that after so many tokens."""
        copy = self._copies.take(position)
        assert copy.place is not None
        self._states[:, copy.place] = self.memory.state[:, slot]
        self._keep_tail(copy, slot)
        return copy

    def _keep_tail(self, copy: Placed, slot: int) -> None:
        if copy.place is not None:
            for tap in range(TAPS - 1):
                place = (copy.position - TAPS + 1 + tap) % RING
                self._tails[:, copy.place, tap] = self.memory.inputs[:, slot, place]

    def warm(self) -> None:
        """Launch what going back takes."""
        self._return(0, Placed(0, NONE), 0)

    def _number(self, value: int) -> Tensor:
        return self._numbers[value, :1]


def _paged_memory(
    layers: int, slots: int, pages: int, heads: tuple[int, int, int], device: torch.device, dtype: torch.dtype
) -> tuple[DeltaMemory, Tensor, Tensor]:
    """Memory of all layers; and inputs and gates by pages, of which each two of the first are a slot's ring."""
    keys, values, size = heads

    def zeros(*sizes: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(layers, *sizes, device=device, dtype=dtype)

    inputs = zeros(2 * slots + pages, PAGE, (2 * keys + values) * size, dtype=dtype)
    gates = zeros(2 * slots + pages, PAGE, 2, values)
    rings = (part[:, : 2 * slots].view(layers, slots, RING, *part.shape[3:]) for part in (inputs, gates))
    return DeltaMemory(zeros(slots, values, size, size), *rings), inputs, gates
