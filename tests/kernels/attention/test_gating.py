"""Gated attention's parts in the interpreter against their twins."""

from __future__ import annotations

import pytest
import torch

from engine.model.kernels.attention.attention import Cache, HeadNorm, Step, rope, rope_reference
from engine.model.kernels.attention.gating import gate, gate_reference
from tests.kernels.weights import distance


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("plane", [False, True])
@pytest.mark.parametrize("parts", [None, 2])
def test_a_gate(plane: bool, parts: int | None) -> None:
    wide = torch.randn(3, *([parts] if parts else []), 200)
    mixed, gates, made = torch.randn(3, 128).half(), wide[..., 40:168], []
    for function in (gate, gate_reference):
        made.append(mixed.clone())
        function(made[-1], gates, plane=plane)
    assert distance(made[0].float(), made[1].float()) < 5e-4


@pytest.mark.parametrize("parts", [None, 2])
def test_queries_of_which_a_part_turns_beside_gates(parts: int | None) -> None:
    """The first columns of something wider; angles of zero where nothing turns."""
    heads, kv_heads, dim, tokens = 4, 2, 32, 3
    integer = {"dtype": torch.int32}
    wide = torch.randn(tokens, *([parts] if parts else []), (2 * heads + 2 * kv_heads) * dim)
    angles = torch.nn.functional.pad(torch.rand(16, 4), (0, dim // 2 - 4))
    step = Step(torch.zeros(tokens, **integer), torch.zeros(tokens, **integer), torch.arange(tokens, **integer),
                torch.tensor([tokens], **integer))  # fmt: skip
    norm, made = HeadNorm(torch.rand(dim), torch.rand(dim), None, 1e-6), []
    for function in (rope, rope_reference):
        cache = Cache(*torch.zeros(2, 2, kv_heads, 16, dim).half(), torch.tensor([[1]], **integer))
        query = torch.zeros(tokens, heads * dim).half()
        function(wide[..., : (heads + 2 * kv_heads) * dim], norm, (angles.cos(), angles.sin()), step, query, cache)
        made.append((query, cache.keys, cache.values))
    for found, expected in zip(*made, strict=True):
        assert distance(found.float(), expected.float()) < 5e-4
