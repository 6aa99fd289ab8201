"""The recurrent states of all rows, and how a row gets that of an earlier place: by snapshots and what tokens fed.

A step is `begin`, `mix` for each layer, `end`. Axis letters as in trail.py; S slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.architecture.shape import DeltaNet
from engine.model.recurrent.delta_rule import convolve, follow, unit
from engine.model.recurrent.trail import FED, SNAPSHOTS, SPACING, Fed, Feeding, Snapshot, Trail


@dataclass(frozen=True, slots=True)
class SavedStates:
    """What a prefix needs: how its state came to be, and its tokens."""

    trail: Trail
    tokens: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return self.trail.nbytes


@dataclass(slots=True)
class _Step:
    """What the step under way will leave behind of one row."""

    fed: Fed
    first: int
    """The first of the step's tokens of which it is kept what they fed."""
    middle: Snapshot | None
    """The snapshot within the step."""


@dataclass(slots=True)
class _Row(Feeding):
    trail: Trail = field(default_factory=Trail)
    step: _Step | None = None


class StateCache:
    """States of `slots` rows. `taps` [L, C, P] are the convolutions of the layers, which are alike."""

    def __init__(self, kind: DeltaNet, taps: Tensor, *, slots: int) -> None:
        self._kind, self._taps = kind, taps
        layers, channels, width = taps.shape
        shape = (slots, layers, kind.value_heads, kind.key_dim, kind.value_dim)
        try:
            self._states = torch.empty(shape)
            self._tails = torch.empty(slots, layers, width - 1, channels, dtype=taps.dtype)
        except RuntimeError:
            gib = slots * 4 * layers * kind.value_heads * kind.key_dim * kind.value_dim / 2**30
            raise ModelError(
                f"the recurrent states of {slots} requests need {gib:,.0f} GiB, not to be had here: lower max_batch",
                param="max_batch",
            ) from None
        self._rows = [_Row() for _ in range(slots)]

    def __str__(self) -> str:
        """What it may take, for people."""
        state = self._states[0].nbytes + self._tails[0].nbytes
        token = self._taps[..., 0].nbytes + 8 * len(self._taps) * self._kind.value_heads
        back = SNAPSHOTS * state + FED * token
        return (
            f"recurrent state: {state / 1e6:,.1f} MB a row in {len(self._taps)} layers, and up to {back / 1e6:,.1f} MB "
            f"to go back with; {len(self._rows)} rows: {(state + back) * len(self._rows) / 1e9:,.2f} GB at most"
        )

    def rewind(self, slot: int, position: int) -> int:
        """Let the slot's state be that after its first `position` tokens, or as near before as is still known: how
        many. `tokens` names those that have to be fed again."""
        row = self._rows[slot]
        if row.is_at(position):
            return position
        row.at, row.trail = None, row.trail.upto(position)
        base = row.trail.snapshots[-1] if row.trail.snapshots else None
        reached = 0 if base is None else base.position
        self._states[slot] = 0.0 if base is None else base.states
        self._tails[slot] = 0.0 if base is None else base.tails
        if reached < position and (fed := row.trail.since(reached, position)) is not None:
            self._again(slot, fed)
            reached = position
        row.trail = row.trail.upto(reached)
        return reached

    def tokens(self, slot: int, start: int, stop: int) -> list[int]:
        """What was fed to the slot at these positions."""
        return self._rows[slot].tokens[start:stop]

    def begin(self, slot: int, position: int, tokens: Sequence[int]) -> None:
        """The slot's state is that after `position` tokens, and these are fed next."""
        row, count = self._rows[slot], len(tokens)
        row.at = None  # until the step has ended
        row.tokens[position : position + count] = tokens
        last = row.trail.snapshots[-1].position if row.trail.snapshots else 0
        if position - last >= SPACING:
            row.trail.snapshots.append(self._snapshot(slot, position))
        kept, layers, channels = min(count, FED), len(self._taps), self._taps.shape[1]
        gates = torch.empty(2, layers, kept, self._kind.value_heads)
        fed = Fed(position + count - kept, self._tails.new_empty(layers, kept, channels), gates[0], gates[1])
        middle = None
        if count > SPACING:
            empty = torch.empty_like(self._states[slot]), torch.empty_like(self._tails[slot])
            middle = Snapshot(position + count - SPACING, *empty)
        row.step = _Step(fed, count - kept, middle)

    def mix(self, layer: int, slot: int, inputs: Tensor, decay: Tensor, rate: Tensor) -> Tensor:
        """A layer's tokens: inputs of its convolution [T, C], decay and rate [T, N]. What they read, fp32 [T, N, V]."""
        step = self._rows[slot].step
        assert step is not None
        step.fed.inputs[layer], step.fed.decay[layer] = inputs[step.first :], decay[step.first :]
        step.fed.rate[layer] = rate[step.first :]
        if step.middle is None:
            return self._mix(layer, slot, inputs, decay, rate)
        parts = (slice(0, -SPACING), slice(-SPACING, None))
        before = self._mix(layer, slot, inputs[parts[0]], decay[parts[0]], rate[parts[0]])
        step.middle.states[layer], step.middle.tails[layer] = self._states[slot, layer], self._tails[slot, layer]
        return torch.cat((before, self._mix(layer, slot, inputs[parts[1]], decay[parts[1]], rate[parts[1]])))

    def end(self, slot: int) -> None:
        """All layers have had the tokens."""
        row = self._rows[slot]
        assert row.step is not None
        row.trail.add([] if row.step.middle is None else [row.step.middle], row.step.fed)
        row.at, row.step = row.step.fed.stop, None

    def save(self, slot: int, length: int) -> SavedStates:
        """How the state after the slot's first `length` tokens came to be, and a snapshot there."""
        row = self._rows[slot]
        trail = row.trail.lean(length)
        if row.at == length and not any(s.position == length for s in trail.snapshots):
            trail.snapshots.append(self._snapshot(slot, length))
        return SavedStates(trail, tuple(row.tokens[:length]))

    def load(self, slot: int, saved: SavedStates, length: int) -> None:
        """The slot begins with the first `length` tokens of what was saved; its state is made when it is needed."""
        self._rows[slot] = _Row(list(saved.tokens[:length]), trail=saved.trail.upto(length))

    def _snapshot(self, slot: int, position: int) -> Snapshot:
        return Snapshot(position, self._states[slot].clone(), self._tails[slot].clone())

    def _mix(self, layer: int, slot: int, inputs: Tensor, decay: Tensor, rate: Tensor) -> Tensor:
        kind = self._kind
        padded = torch.cat((self._tails[slot, layer], inputs))
        self._tails[slot, layer] = padded[len(inputs) :]
        mixed = convolve(padded, self._taps[layer])
        q, k, v = mixed.split(kind.widths, dim=-1)
        q = self._spread(unit(q.unflatten(-1, (kind.key_heads, -1)))) * kind.key_dim**-0.5
        k, v = self._spread(unit(k.unflatten(-1, (kind.key_heads, -1)))), self._values(v)
        self._states[slot, layer], read = follow(self._states[slot, layer], k, v, decay.mT, rate.mT, q)
        assert read is not None
        return read.transpose(0, 1)

    def _again(self, slot: int, fed: Fed) -> None:
        """Do to the slot's state once more what tokens did, in all layers at once; nothing is read."""
        kind = self._kind
        padded = torch.cat((self._tails[slot], fed.inputs), dim=1)
        self._tails[slot] = padded[:, fed.inputs.shape[1] :]
        first = kind.widths[0]
        k, v = convolve(padded[..., first:], self._taps[:, first:]).split(kind.widths[1:], dim=-1)
        k = self._spread(unit(k.unflatten(-1, (kind.key_heads, -1))))
        self._states[slot], _ = follow(self._states[slot], k, self._values(v), fed.decay.mT, fed.rate.mT)

    def _spread(self, x: Tensor) -> Tensor:
        """Each key head's vectors [..., T, Hk, K] for the value heads that it serves: [..., N, T, K]."""
        return x.repeat_interleave(self._kind.value_heads // self._kind.key_heads, dim=-2).transpose(-2, -3)

    def _values(self, v: Tensor) -> Tensor:
        heads: Tensor = v.unflatten(-1, (self._kind.value_heads, -1))
        return heads.transpose(-2, -3)
