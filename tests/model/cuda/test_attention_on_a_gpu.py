"""A prefill's attention on a GPU, where Hopper cards have a kernel that no interpreter runs."""

from __future__ import annotations

import pytest
import torch

from engine.model.cpu.kv_blocks import BLOCK
from engine.model.kernels.attention import tile_attention
from engine.model.kernels.attention.attention import Cache, Step
from engine.model.kernels.attention.tile_attention import Tiles
from tests.kernels.weights import distance

pytestmark = [
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]  # fmt: skip


@pytest.mark.parametrize("dim", [64, 128])  # the second has the kernel of its own
def test_two_rows_over_query_tiles(dim: int) -> None:
    """One row's tiles begin behind others' keys, the last is short; a lone token has a tile; one tile is idle."""
    torch.manual_seed(0)
    heads, kv, device = 8, 2, torch.device("cuda:0")
    integer = {"dtype": torch.int32, "device": device}
    slots = torch.tensor([1] * 300 + [0], **integer)
    step = Step(slots, slots, torch.tensor([*range(77, 377), 5], **integer), torch.tensor([301], **integer))
    tiles = Tiles(torch.tensor([0, 128, 256, 300, 0], **integer), torch.tensor([128, 128, 44, 1, 0], **integer))
    table = torch.randperm(6, device=device).to(torch.int32).view(2, 3)
    keys, values = (torch.randn(6, kv, BLOCK, dim, device=device).half() for _ in range(2))
    cache, query = Cache(keys, values, table), torch.randn(301, heads * dim, device=device).half()
    made = [torch.full_like(query, float("nan")) for _ in range(3)]
    tile_attention.tile_attention(query, cache, step, tiles, made[0])
    tile_attention.tile_attention(query, cache, step, tiles, made[1])
    tile_attention.tile_attention_reference(query, cache, step, tiles, made[2])
    assert distance(made[0], made[2]) < 4e-4
    assert torch.equal(made[0], made[1])
