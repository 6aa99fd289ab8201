"""Attention on a GPU: a prefill's on Hopper cards and the join of few tokens' parts are run by no interpreter."""

from __future__ import annotations

import pytest
import torch

from engine.model.cpu.kv_blocks import BLOCK
from engine.model.kernels.attention import attend_few, joining, tile_attention
from engine.model.kernels.attention.attention import Cache, HeadNorm, Step, rope, rope_reference
from engine.model.kernels.attention.tile_attention import Tiles
from tests.kernels.weights import distance, stored_as

pytestmark = [
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]  # fmt: skip


@pytest.mark.parametrize("kept", ["fp16", "fp8"])
@pytest.mark.parametrize("dim", [64, 128])  # the second has the kernel of its own, in fp16
def test_two_rows_over_query_tiles(dim: int, kept: str) -> None:
    """One row's tiles begin behind others' keys, the last is short; a lone token has a tile; one tile is idle."""
    torch.manual_seed(0)
    heads, kv, device = 8, 2, torch.device("cuda:0")
    integer = {"dtype": torch.int32, "device": device}
    slots = torch.tensor([1] * 300 + [0], **integer)
    step = Step(slots, slots, torch.tensor([*range(77, 377), 5], **integer), torch.tensor([301], **integer))
    tiles = Tiles(torch.tensor([0, 128, 256, 300, 0], **integer), torch.tensor([128, 128, 44, 1, 0], **integer))
    table = torch.randperm(6, device=device).to(torch.int32).view(2, 3)
    stored = stored_as(kept, torch.randn(2, 6, kv, BLOCK, dim, device=device).half())
    cache, query = Cache(*stored, table), torch.randn(301, heads * dim, device=device).half()
    made = [torch.full_like(query, float("nan")) for _ in range(3)]
    tile_attention.tile_attention(query, cache, step, tiles, made[0])
    tile_attention.tile_attention(query, cache, step, tiles, made[1])
    tile_attention.tile_attention_reference(query, cache, step, tiles, made[2])
    assert distance(made[0], made[2]) < 4e-4
    assert torch.equal(made[0], made[1])


@pytest.mark.parametrize("tokens", [1, 2, 4, 8])
@pytest.mark.parametrize("position", [0, 70, 530, 5000])
@pytest.mark.parametrize("kept", ["fp16", "fp8"])
@pytest.mark.parametrize("far", [False, True])
def test_few_tokens_join_their_parts(tokens: int, position: int, kept: str, far: bool) -> None:
    """The last two are one row's, where there are two. Short caches have one part or two, long ones more than are read
    at once; the second launch finds all parts unset, as the first did."""
    torch.manual_seed(0)
    heads, kv, dim, device = 32, 4, 128, torch.device("cuda:0")
    integer = {"dtype": torch.int32, "device": device}
    slots = torch.tensor([*range(tokens - 1), max(0, tokens - 2)], **integer)
    positions = torch.full((tokens,), position, **integer)
    positions[-1] += tokens > 1
    step = Step(slots, slots, positions, torch.tensor([tokens], **integer), far=far)
    depth = (position + 1) // BLOCK + 1
    table = torch.randperm(tokens * depth, device=device).to(torch.int32).view(tokens, depth)
    stored = stored_as(kept, torch.randn(2, tokens * depth, kv, BLOCK, dim, device=device).half())
    qkv = torch.randn(tokens, (heads + 2 * kv) * dim, device=device)
    norm = HeadNorm(torch.rand(dim, device=device).half(), torch.rand(dim, device=device).half(), None, 1e-6)
    angles = torch.outer(torch.arange(position + 2).float(), 1e4 ** (-torch.arange(dim // 2) / (dim // 2))).to(device)
    parts, made = joining.make_parts(tokens, heads, kv, dim, device), []
    for function in (attend_few.attend_few, attend_few.attend_few, attend_few.attend_few_reference):
        cache = Cache(stored[0].clone(), stored[1].clone(), table)
        query, out = (torch.full((tokens, heads * dim), float("nan"), device=device).half() for _ in range(2))
        function(qkv, norm, (angles.cos(), angles.sin()), step, cache, parts, query, out)
        made.append((out, cache))
    outs = [out for out, _ in made]
    assert distance(outs[0], outs[2]) < 5e-4
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(made[0][1].keys, made[1][1].keys)
    assert all(bool((part.view(torch.int32) == -1).all()) for part in (parts.acc, parts.stats))


@pytest.mark.parametrize("kept", ["fp16", "fp8"])
@pytest.mark.parametrize("tokens", [7, 301])  # of many tokens a block turns four
def test_rope_of_a_row(tokens: int, kept: str) -> None:
    torch.manual_seed(0)
    heads, kv, dim, live, device = 8, 2, 128, tokens - 2, torch.device("cuda:0")
    integer = {"dtype": torch.int32, "device": device}
    slots, positions = torch.zeros(tokens, **integer), torch.arange(70, 70 + tokens, **integer)
    step = Step(slots, slots, positions, torch.tensor([live], **integer))
    norm = HeadNorm(torch.rand(dim, device=device).half(), torch.rand(dim, device=device).half(), None, 1e-6)
    angles = torch.outer(torch.arange(400).float(), 1e4 ** (-torch.arange(dim // 2) / (dim // 2))).to(device)
    qkv, table = torch.randn(tokens, (heads + 2 * kv) * dim, device=device), torch.tensor([[2, 0, 3]], **integer)
    stored, made = stored_as(kept, torch.randn(2, 4, kv, BLOCK, dim, device=device).half()), []
    for function in (rope, rope_reference):
        cache = Cache(stored[0].clone(), stored[1].clone(), table)
        query = torch.zeros(tokens, heads * dim, device=device).half()
        function(qkv, norm, (angles.cos(), angles.sin()), step, query, cache)
        made.append((query[:live], *cache.entries(0, 70 + live), cache.keys, cache.values))
    for found, expected in zip(made[0][:3], made[1][:3], strict=True):
        assert distance(found, expected) < 5e-4
    for found, expected in zip(made[0][3:], made[1][3:], strict=True):
        assert (found != expected).float().mean() < 1e-3, "more was written, or elsewhere"
