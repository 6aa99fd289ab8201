"""How a row's recurrent state came to be, as far as going back needs it: snapshots, and what the last tokens did.

The state after a token cannot be undone, and one a token would be too much to keep (75 MB at the size of
Qwen3-Coder-Next, against 0.6 MB in 16 bits for what a token feeds). So a row that goes back takes the nearest snapshot
before that place, and what lies between is done again from what the tokens fed; where that is no longer kept, the
tokens themselves are fed again. Everything here is written once, so that rows and prefixes share it by reference.

Axis letters: L recurrent layers, N heads, K key size, V value size, T tokens, C channels, P taps of the convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

SPACING = 64
"""Tokens after which there is another snapshot."""
SNAPSHOTS = 6
"""Kept of a row; the farther back they lie, the farther apart: the way from one is at most twice as far as it is back
to where that way ends."""
PREFIX_SNAPSHOTS = 3
"""Kept of a prefix, the last ones: 0.3 GB, with what the tokens behind the last one fed, at the size named above."""
FED = 512
"""Tokens of a row of which it is kept what they fed."""


@dataclass(slots=True)
class Feeding:
    """What a slot was fed, and how far its state is."""

    tokens: list[int] = field(default_factory=list)
    """What was fed last at each position; of those behind `at` some may have been taken back."""
    at: int | None = None
    """After how many tokens the slot's state is; None while it is not known, as when a step has failed."""

    def is_at(self, position: int) -> bool:
        """Whether nothing has to be gone back. ValueError where so many tokens were never fed."""
        if self.at != position and position > len(self.tokens):
            raise ValueError(f"the slot has been fed {len(self.tokens)} tokens, and not {position}")
        return self.at == position


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What all layers hold after `position` tokens."""

    position: int
    states: Tensor  # fp32 [L, N, K, V]
    tails: Tensor  # the last inputs of the convolutions [L, P - 1, C]

    @property
    def nbytes(self) -> int:
        return self.states.nbytes + self.tails.nbytes


@dataclass(frozen=True, slots=True)
class Fed:
    """What the tokens from `start` on fed: to the convolutions, and to the rule the decay's logarithm and the rate."""

    start: int
    inputs: Tensor  # [L, T, C]
    decay: Tensor  # fp32 [L, T, N]
    rate: Tensor  # fp32 [L, T, N]

    @property
    def stop(self) -> int:
        return self.start + self.inputs.shape[1]

    @property
    def nbytes(self) -> int:
        return self.inputs.nbytes + self.decay.nbytes + self.rate.nbytes

    def part(self, start: int, stop: int) -> Fed:
        """The same from one position up to another, within its own."""
        kept = slice(max(start, self.start) - self.start, min(stop, self.stop) - self.start)
        inputs, decay, rate = (part[:, kept] for part in (self.inputs, self.decay, self.rate))
        return Fed(self.start + kept.start, inputs, decay, rate)


@dataclass(slots=True)
class Trail:
    """Of one row. Both lists in the order of positions; what tokens fed leaves no gap."""

    snapshots: list[Snapshot] = field(default_factory=list)
    fed: list[Fed] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        return sum(snapshot.nbytes for snapshot in self.snapshots) + sum(fed.nbytes for fed in self.fed)

    def upto(self, length: int) -> Trail:
        """The part that belongs to the first `length` tokens."""
        snapshots = [snapshot for snapshot in self.snapshots if snapshot.position <= length]
        return Trail(snapshots, [fed.part(fed.start, length) for fed in self.fed if fed.start < length])

    def lean(self, length: int) -> Trail:
        """As `upto`, for keeping: few snapshots, and of what tokens fed, only from the last one before the end on."""
        kept = self.upto(length)
        del kept.snapshots[:-PREFIX_SNAPSHOTS]
        last = max((snapshot.position for snapshot in kept.snapshots if snapshot.position < length), default=0)
        kept.fed = [fed.part(last, length) for fed in kept.fed if fed.stop > last]
        return kept

    def since(self, start: int, stop: int) -> Fed | None:
        """What the tokens from `start` up to `stop` fed; None where that is no longer kept."""
        if not self.fed or self.fed[0].start > start or self.fed[-1].stop < stop:
            return None
        parts = [fed.part(start, stop) for fed in self.fed if fed.stop > start and fed.start < stop]
        joined = (torch.cat([getattr(part, name) for part in parts], dim=1) for name in ("inputs", "decay", "rate"))
        return Fed(start, *joined)

    def add(self, snapshots: Sequence[Snapshot], fed: Fed) -> None:
        """What a step left behind; the oldest of what tokens fed is let go, and the snapshot that is missed least."""
        self.snapshots += snapshots
        self.fed.append(fed)
        while self.fed[0].stop <= fed.stop - FED:
            del self.fed[0]
        while len(self.snapshots) > SNAPSHOTS:
            del self.snapshots[missed_least([snapshot.position for snapshot in self.snapshots], fed.stop)]


def missed_least(positions: Sequence[int], end: int, window: int = 0) -> int:
    """Which of several snapshots it is without which the way from the one before it grows least, for how far back it
    is. With a `window`, all of whose tokens' inputs are kept: the oldest before it, but for the last; among the others
    the last FED tokens count alike, and the last two snapshots stay."""
    if window and positions[1] <= end - window:
        return 0
    at = [0, *positions]
    alike, last = min(window, FED), len(at) - 1 - bool(window)
    ways = [(at[i + 1] - at[i - 1]) / max(alike, end + 1 - at[i]) for i in range(1, last)]
    return ways.index(min(ways))
