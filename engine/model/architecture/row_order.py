"""In which order the rows of a checkpoint's matrices go into ours."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model.architecture.shape import Attention, DeltaNet


def queries_and_gates(kind: Attention) -> tuple[Tensor, Tensor]:
    """The rows of gated attention's q_proj that are queries, and those that are gates: each head's gate follows its
    query."""
    rows = torch.arange(2 * kind.heads * kind.head_dim).view(kind.heads, 2, kind.head_dim)
    return rows[:, 0].flatten(), rows[:, 1].flatten()


def unfused(kind: DeltaNet) -> tuple[Tensor, Tensor]:
    """in_proj_qkvz's rows as queries, keys, values and gates, and in_proj_ba's as b and a: they lie by key heads."""
    served = kind.value_heads // kind.key_heads
    sizes = (kind.key_dim, kind.key_dim, served * kind.value_dim, served * kind.value_dim)
    return _by_parts(kind.key_heads, sizes), _by_parts(kind.key_heads, (served, served))


def halves(kind: Attention) -> Tensor:
    """A head's numbers so that each that is rotated stands half a head before the one it is rotated with, though not
    all are rotated. Keys and queries in the same order have the same products."""
    rotated = torch.arange(kind.rotary).view(2, -1)
    kept = torch.arange(kind.rotary, kind.head_dim).view(2, -1)
    return torch.cat((rotated, kept), dim=1).flatten()


def _by_parts(groups: int, sizes: tuple[int, ...]) -> Tensor:
    rows = torch.arange(groups * sum(sizes)).view(groups, -1)
    return torch.cat([part.flatten() for part in rows.split(sizes, dim=1)])
