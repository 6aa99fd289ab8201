"""The host half of the sampler: per-request settings and random numbers, as inputs for the device half.

Random numbers are a function of (seed + sample, position) alone: batching, drafts and rollback cannot shift them.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Mapping
from typing import Any

from engine.interfaces import SampleInputs
from engine.request import SamplingParams

_SEED_SPACE = 1 << 64
_LEAST = 1e-6
"""Smaller settings draw the same tokens, and quotients by them leave the range of single precision: what is no number
any more would fail the step of every row."""


def draw_seed() -> int:
    """A fresh seed for a request that named none; it is reported in the result."""
    return secrets.randbits(63)


def uniform(seed: int, position: int) -> float:
    """The random number in [0, 1), 53 bits, of an output position under a seed (BLAKE2b as a counter PRF)."""
    digest = hashlib.blake2b(
        struct.pack("<QQ", seed % _SEED_SPACE, position), digest_size=8, person=b"maskloop"
    ).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


class InputRows:
    """Collects one entry per logits row of a step."""

    def __init__(self) -> None:
        self._rows: list[tuple[SamplingParams, int, int, int]] = []
        self.want_logprobs = 0
        self.want_stats = False
        self.want_mass = False
        self._bias: dict[int, Mapping[int, float]] = {}
        self.sources: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self,
        params: SamplingParams,
        *,
        seed: int,
        position: int,
        slot: int,
        want_stats: bool,
        bias: Mapping[int, float] | None = None,
    ) -> int:
        """Append a row and return its index; `position` counts the completion's tokens from 0."""
        if bias:
            self._bias[len(self._rows)] = bias
        self.want_mass = self.want_mass or params.method != "mask" or params.logprobs is not None
        self._rows.append((params, seed, position, slot))
        if params.logprobs is not None:
            self.want_logprobs = max(self.want_logprobs, params.logprobs + 1)
        self.want_stats = self.want_stats or want_stats
        return len(self._rows) - 1

    def inputs(self, bitmask: Any | None) -> SampleInputs:
        """The device half's inputs; `bitmask` is int32 [R', W]."""
        params = [row[0] for row in self._rows]
        return SampleInputs(
            temperature=[p.temperature and max(p.temperature, _LEAST) for p in params],
            top_p=[max(p.top_p, _LEAST) for p in params],
            top_k=[p.top_k for p in params],
            min_p=[p.min_p for p in params],
            repetition_penalty=[max(p.repetition_penalty, _LEAST) for p in params],
            uniform=[0.0 if p.temperature == 0.0 else uniform(seed, position) for p, seed, position, _ in self._rows],
            slots=[slot for *_, slot in self._rows],
            bitmask=bitmask,
            want_logprobs=self.want_logprobs,
            want_stats=self.want_stats,
            want_mass=self.want_mass,
            bias=self._bias or None,
            sources=self.sources or None,
        )
