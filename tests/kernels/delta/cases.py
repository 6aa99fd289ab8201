"""Random layers and steps of gated DeltaNet, for both the interpreter and a card."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from engine.model.kernels.delta.memory import TAPS, DeltaMemory, DeltaWeights, Rates, Rows, Way, make_memory

CPU = torch.device("cpu")


class Layer(NamedTuple):
    weights: DeltaWeights
    memory: DeltaMemory


def random_layer(heads: tuple[int, int, int], slots: int, ring: int, device: torch.device = CPU) -> Layer:
    """Decays between 0.2 and 1 a token, and a memory that has gone some way."""
    keys, values, size = heads
    channels = (2 * keys + values) * size
    weights = DeltaWeights(
        torch.randn(TAPS, channels, device=device) * 0.5, torch.empty(values, device=device).uniform_(0.01, 4).log(),
        torch.randn(values, device=device) - 2, torch.rand(size, device=device) + 0.5, 1e-6,
    )  # fmt: skip
    memory = make_memory(1, slots, ring, heads, device).layer(0)
    memory.state.copy_(torch.randn_like(memory.state) * 0.2)
    memory.inputs.copy_(torch.randn_like(memory.inputs))
    memory.gates.copy_(-torch.rand_like(memory.gates))
    return Layer(weights, memory)


def random_step(tokens: int, memory: DeltaMemory) -> tuple[Tensor, Tensor]:
    """projected and ba."""
    _, values, size = memory.heads
    channels, device = memory.inputs.shape[-1], memory.state.device
    projected = torch.randn(tokens, channels + values * size, device=device)
    return projected, torch.randn(tokens, 2 * values, device=device)


def random_rates(tokens: int, memory: DeltaMemory, hidden: int) -> Rates:
    """What b and a are made of, of about the size of `random_step`'s."""
    device, values = memory.state.device, memory.heads[1]
    x, weight = torch.randn(tokens, hidden, device=device) * 3, torch.randn(2 * values, hidden, device=device)
    return Rates(x, torch.rand(hidden, device=device) + 0.5, (weight / hidden**0.5).bfloat16(), 1e-6)


def rows_of(counts: list[int], slots: list[int], positions: list[int], device: torch.device = CPU) -> Rows:
    firsts = [sum(counts[:row]) for row in range(len(counts))]
    return Rows(*(torch.tensor(part, dtype=torch.int32, device=device) for part in (firsts, counts, slots, positions)))


def copied(memory: DeltaMemory, dtype: torch.dtype | None = None) -> DeltaMemory:
    """A copy, its state in another type."""
    return DeltaMemory(memory.state.to(dtype or memory.state.dtype, copy=True), *(part.clone() for part in memory[1:]))


def way_in_rings(memory: DeltaMemory, start: Tensor, sources: Tensor, rows: Rows) -> Way:
    """Forward from states of `start` over what the slots' rings have: each ring is a page."""
    ring, count = memory.inputs.shape[2], int(rows.count.max()) // memory.inputs.shape[2] + 2
    tails = start.new_zeros(*start.shape[:2], TAPS - 1, memory.inputs.shape[-1], dtype=memory.inputs.dtype)
    for source, slot, position in zip(*(part.tolist() for part in (sources, rows.slots, rows.positions)), strict=True):
        before = [p % ring for p in range(position - TAPS + 1, position)]
        held = memory.inputs[:, slot, before]
        tails[:, source] = torch.where(
            torch.arange(position - TAPS + 1, position)[:, None].to(held.device) < 0, 0, held
        )
    table = rows.slots[:, None].repeat(1, count)
    return Way(start, tails, sources, memory.inputs, memory.gates, table)
