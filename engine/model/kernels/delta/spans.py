"""How layers that keep a state see a step: by rows, where attention sees tokens."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from engine.model.kernels.delta.chunks import Chunks
from engine.model.kernels.delta.memory import DeltaMemory, Rows


class Spans(NamedTuple):
    """A step's rows, and where there are many tokens, their chunks."""

    rows: Rows
    chunks: Chunks
    places: Tensor
    """int32 [R]: where a row of many tokens keeps the state before its last chunk; -1: nowhere."""


class LayerStates(NamedTuple):
    """Of one layer: what each slot holds, and the states that were kept."""

    memory: DeltaMemory
    kept: Tensor
    """fp32 [places, VH, D, D]."""
