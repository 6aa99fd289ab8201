"""The KV cache of the plain decoder, and attention over it: a row's entries lie in stretches of places.

In 8 bits an entry is D codes and the byte of their scale (`kv_codes`); it is decoded whenever it is read.

Axis letters: T tokens of a row, N query heads, K key/value heads, D head size, S positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch program gives it
from torch import Tensor

from engine.errors import ModelError
from engine.model.cpu import kv_codes
from engine.model.cpu.kv_blocks import BLOCK

Runs = tuple[tuple[int, int], ...]
"""Stretches of places in the KV cache, each its first place and its length; together a row's positions, in order."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where one row's tokens lie in the flattened step: [start, stop), the first at `position` of `slot`."""

    slot: int
    start: int
    stop: int
    position: int
    runs: Runs = ()
    """Of all positions up to the last of these tokens. Where none is named: the slot's own stretch of the cache."""
    stored: bool = False
    """Whether the tokens' keys and values lie there already, and are not written."""

    @property
    def end(self) -> int:
        """The position after the last of the tokens."""
        return self.position + self.stop - self.start

    def earlier(self, position: int, count: int) -> Span:
        """The row's `count` tokens from an earlier position on, by themselves, which have been fed before."""
        runs, end = [], position + count
        for place, length in self.runs:
            runs.append((place, min(length, end)))
            end -= runs[-1][1]
        return Span(self.slot, 0, count, position, tuple(run for run in runs if run[1]), stored=True)


class CpuCache:
    """Keys and values [layers, places, K, D]: places for `slots` rows of `positions`, in whole blocks. ModelError where
    the machine has no such memory."""

    def __init__(
        self, layers: int, kv_heads: int, head_dim: int, *, slots: int, positions: int, dtype: torch.dtype,
        coded: bool = False,
    ) -> None:  # fmt: skip
        """`dtype` is what is computed with; `coded`: kept in 8 bits."""
        self._stretch = -(-positions // BLOCK) * BLOCK
        width, kept = (head_dim + 1, torch.uint8) if coded else (head_dim, dtype)
        self.position_bytes = 2 * layers * kv_heads * width * kept.itemsize
        shape = (layers, slots * self._stretch, kv_heads, width)
        try:  # empty, not zeros: pages that are never written are never backed by memory
            self.keys, self.values = torch.empty(shape, dtype=kept), torch.empty(shape, dtype=kept)
        except RuntimeError:
            gib = slots * self._stretch * self.position_bytes / 2**30
            raise ModelError(
                f"{slots} requests of {positions} tokens need {gib:,.0f} GiB of keys and values, not to be had here: "
                "lower max_batch or max_sequence",
                param="max_batch",
            ) from None

    def copy(self, source: int, target: int, count: int) -> None:
        """Copy the entries of `count` places, from `source` on, to those from `target` on."""
        for entries in (self.keys, self.values):
            entries[:, target : target + count] = entries[:, source : source + count]

    def attend(self, layer: int, span: Span, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write the span's keys and values [T, K, D], then attend over everything up to each token: [T, N, D]."""
        keys, values = self.keys[layer], self.values[layer]
        runs = span.runs or ((span.slot * self._stretch, span.end),)
        for place, at, length in () if span.stored else _stretches(runs, span.position):
            keys[place : place + length] = _kept(k[at : at + length], keys.dtype)
            values[place : place + length] = _kept(v[at : at + length], values.dtype)
        if len(q) == 1 and len(runs) > 1:
            return _attend_in_parts(q, keys, values, runs)
        mask = torch.ones(len(q), span.end, dtype=torch.bool).tril(span.position) if len(q) > 1 else None
        out = F.scaled_dot_product_attention(
            q.transpose(0, 1).unsqueeze(0),
            _read(_joined(keys, runs), q.dtype).transpose(0, 1).unsqueeze(0),
            _read(_joined(values, runs), q.dtype).transpose(0, 1).unsqueeze(0),
            attn_mask=mask,
            enable_gqa=True,
        )
        return out[0].transpose(0, 1)


def _kept(entries: Tensor, dtype: torch.dtype) -> Tensor:
    """What the cache keeps of entries [T, K, D]."""
    if dtype != torch.uint8:
        return entries
    codes, exponents = kv_codes.encode(entries)
    return torch.cat((codes, exponents.unsqueeze(-1)), -1)


def _read(kept: Tensor, dtype: torch.dtype) -> Tensor:
    """The reverse of `_kept`."""
    return kv_codes.decode(kept[..., :-1].contiguous(), kept[..., -1]).to(dtype) if kept.dtype == torch.uint8 else kept


def _stretches(runs: Runs, position: int) -> Iterator[tuple[int, int, int]]:
    """Where the positions from `position` on lie: first place, offset from `position`, length."""
    begin = 0
    for place, length in runs:
        skipped = min(length, max(0, position - begin))
        if skipped < length:
            yield place + skipped, begin + skipped - position, length - skipped
        begin += length


def _joined(entries: Tensor, runs: Runs) -> Tensor:
    """The row's entries [S, K, D]: a view where they lie together, as those of a row do that shares nothing."""
    parts = [entries[place : place + length] for place, length in runs]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _attend_in_parts(q: Tensor, keys: Tensor, values: Tensor, runs: Runs) -> Tensor:
    """Attention of one token's q [1, N, D] over entries that lie apart, without gathering them."""
    grouped = q.reshape(keys.shape[1], -1, q.shape[-1])  # [K, N/K, D]
    parts = [slice(place, place + length) for place, length in runs]
    scores = torch.cat([grouped @ _read(keys[part], q.dtype).permute(1, 2, 0) for part in parts], dim=-1)
    weights = (scores * q.shape[-1] ** -0.5).softmax(-1).split([length for _, length in runs], dim=-1)
    mixed = [weight @ _read(values[part], q.dtype).transpose(0, 1) for weight, part in zip(weights, parts, strict=True)]
    return torch.stack(mixed).sum(0).view_as(q)
