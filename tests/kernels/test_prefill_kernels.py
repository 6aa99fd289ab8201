"""The many-token kernels in Triton's interpreter against their plain-torch references."""

from __future__ import annotations

import pytest
import torch

from engine.model.cpu.kv_blocks import BLOCK
from engine.model.kernels.attention import tile_attention
from engine.model.kernels.attention.attention import Cache, HeadNorm, Step, rope, rope_reference
from engine.model.kernels.attention.tile_attention import Tiles
from engine.model.kernels.device import plane
from engine.model.kernels.device.plane import plane_order
from engine.model.kernels.products import prefill
from engine.model.kernels.routing import groups, router
from engine.model.kernels.routing.groups import group_pairs
from tests.kernels.weights import distance, random_weight, stored_as

EXPERTS, HIDDEN, INNER, CHOSEN = 5, 128, 64, 2


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_plane_order_is_a_permutation_within_blocks_of_64() -> None:
    order = plane_order(192, torch.device("cpu"))
    assert sorted(order.tolist()) == list(range(192))
    assert torch.equal(order // 64, torch.arange(192) // 64)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("add", [False, True])
def test_product(bits: int, add: bool) -> None:
    weight, x = random_weight(bits, 64, 128), torch.randn(70, 128).half()
    out = torch.randn(70, 64)
    expected = out.clone()
    prefill.product(x, weight, out, add=add)
    prefill.product_reference(x, weight, expected, add=add)
    assert distance(out, expected) < 1e-6


@pytest.mark.parametrize("bits", [4, 8])
def test_expand(bits: int) -> None:
    weight = random_weight(bits, 64, 128)
    out = torch.empty(64, 128, dtype=torch.float16)
    prefill.expand(weight, out)
    expected = prefill.unfragment(weight)[:, plane_order(128, torch.device("cpu"))]
    assert distance(out, expected) < 5e-4


@pytest.mark.parametrize("bits", [4, 16])
@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("ids", ["random", "one expert"])
def test_experts(bits: int, size: int, ids: str) -> None:
    tokens = 33
    chosen = torch.stack([torch.randperm(EXPERTS)[:CHOSEN].sort().values for _ in range(tokens)])
    if ids == "one expert":
        chosen[:] = torch.tensor([1, 3])
    chosen[-2:] = EXPERTS  # padding goes nowhere
    pairs, groups = group_pairs(chosen, EXPERTS, size)
    assert int(groups.count.sum()) == (tokens - 2) * CHOSEN
    gate_up, down = random_weight(bits, EXPERTS, 2 * INNER, HIDDEN), random_weight(bits, EXPERTS, HIDDEN, INNER)
    x, weights = torch.randn(tokens, HIDDEN).half(), torch.rand(tokens * CHOSEN)
    made = []
    for function in (prefill.experts_product, prefill.experts_product_reference):
        inner, parts = torch.zeros(tokens * CHOSEN, INNER).half(), torch.zeros(tokens * CHOSEN, HIDDEN)
        parts = parts.to(torch.float32)
        function(x, pairs, weights, groups, gate_up, down, inner, parts, chosen=CHOSEN)
        made.append(parts)
    assert distance(made[0], made[1]) < 4e-3  # `inner` is rounded to 16 bits


@pytest.mark.parametrize("kept", ["fp16", "fp8"])
def test_attention_over_query_tiles_of_two_rows(kept: str) -> None:
    heads, kv, dim = 4, 2, 32
    integer = torch.int32
    slots = torch.tensor([1] * 130 + [0], dtype=integer)
    positions = torch.tensor([*range(40, 170), 5], dtype=integer)
    step = Step(slots, slots, positions, torch.tensor([131], dtype=integer))
    tiles = Tiles(torch.tensor([0, 128, 130, 0], dtype=integer), torch.tensor([128, 2, 1, 0], dtype=integer))
    table = torch.randperm(5, dtype=integer)[:4].view(2, 2)
    cache = Cache(*stored_as(kept, torch.randn(2, 5, kv, BLOCK, dim).half()), table)
    query = torch.randn(131, heads * dim).half()
    out, expected = (torch.full((131, heads * dim), float("nan")).half() for _ in range(2))
    tile_attention.tile_attention(query, cache, step, tiles, out)
    tile_attention.tile_attention_reference(query, cache, step, tiles, expected)
    assert distance(out, expected) < 1e-3


@pytest.mark.parametrize("kept", ["fp16", "fp8"])
def test_rope_of_many_tokens(kept: str) -> None:
    """The last block of tokens is not full, and two tokens are padding."""
    heads, kv, dim, tokens, live = 4, 2, 32, 263, 261
    integer = torch.int32
    slots = torch.tensor([1] * 130 + [0] * 133, dtype=integer)
    positions = torch.tensor([*range(40, 170), *range(133)], dtype=integer)
    step = Step(slots, slots, positions, torch.tensor([live], dtype=integer))
    angles = torch.outer(torch.arange(200).float(), 1e4 ** (-torch.arange(dim // 2) / (dim // 2)))
    norm = HeadNorm(torch.rand(dim), torch.rand(dim), torch.randn((heads + 2 * kv) * dim), 1e-6)
    qkv, made = torch.randn(tokens, (heads + 2 * kv) * dim), []
    stored = stored_as(kept, torch.randn(2, 5, kv, BLOCK, dim).half())
    for function in (rope, rope_reference):
        cache = Cache(stored[0].clone(), stored[1].clone(), torch.tensor([[3, 0], [4, 1]], dtype=integer))
        query = torch.zeros(tokens, heads * dim).half()
        function(qkv, norm, (angles.cos(), angles.sin()), step, query, cache)
        made.append((query[:live], *cache.entries(0, 133), *cache.entries(1, 170)))
    for found, expected in zip(*made, strict=True):
        assert distance(found, expected) < 5e-4


def test_norm_in_plane_order() -> None:
    x, gain = torch.randn(3, 128), torch.rand(128)
    (out, also), (expected, exact) = ((torch.empty(3, 128).half(), torch.empty(3, 128)) for _ in range(2))
    plane.norm(x, gain, out, also, eps=1e-6)
    plane.norm_reference(x, gain, expected, exact, eps=1e-6)
    assert distance(out, expected) < 5e-4
    assert distance(also, exact) < 1e-6
    plane.norm(x, gain, expected, eps=1e-6)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("live", [20, 0])
def test_combined_parts_and_the_next_norm(live: int) -> None:
    tokens = 37
    parts, gain = torch.randn(tokens * CHOSEN, HIDDEN).bfloat16().float(), torch.rand(HIDDEN)
    x = torch.randn(tokens, HIDDEN)
    made = []
    for function in (plane.combine, plane.combine_reference):
        out, normed = x.clone(), torch.empty(tokens, HIDDEN).half()
        function(parts, out, gain, normed, torch.tensor([live]), chosen=CHOSEN, eps=1e-6)
        made.append((out, normed))
    assert torch.allclose(made[0][0], made[1][0], atol=1e-6)
    assert distance(made[0][1], made[1][1]) < 5e-4
    assert torch.equal(made[0][0][live:], x[live:]), "padding is left alone"


@pytest.mark.parametrize(("tokens", "live"), [(70, 60), (17, 0), (1, 1)])
@pytest.mark.parametrize(("experts", "chosen"), [(5, 2), (128, 8), (1, 1)])
@pytest.mark.parametrize("logits", ["random", "ties", "one expert"])
def test_tokens_by_expert(tokens: int, live: int, experts: int, chosen: int, logits: str) -> None:
    values = torch.randn(tokens, experts)
    if logits == "ties":
        values = values.round()
    elif logits == "one expert":
        values[:, :chosen] += 100.0
    alive = torch.tensor([live], dtype=torch.int32)
    size = groups.group_size(tokens * chosen, experts)
    made = groups.group(values, alive, chosen=chosen, norm_topk=True, size=size)
    expected = groups.group_reference(values, alive, chosen=chosen, norm_topk=True, size=size)
    pairs = live * chosen
    assert torch.equal(made.pairs[:pairs], expected.pairs[:pairs])
    assert torch.allclose(made.weights[:pairs], expected.weights[:pairs], atol=1e-6)
    assert torch.equal(made.groups.count, expected.groups.count)
    used = made.groups.count > 0
    assert int(made.groups.count.sum()) == pairs
    assert torch.equal(made.groups.expert[used], expected.groups.expert[used])
    assert torch.equal(made.groups.start[used], expected.groups.start[used])


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("tokens", [5, 40, 100])
def test_a_product_in_stretches_of_its_columns(bits: int, tokens: int) -> None:
    weight, x = random_weight(bits, 64, 512), torch.randn(tokens, 512).half()
    parts = torch.full((tokens, prefill.splits_of(weight, tokens), 64), float("nan"))
    expected = parts.clone()
    assert parts.shape[1] == 8
    prefill.product_parts(x, weight, parts)
    prefill.product_parts_reference(x, weight, expected)
    assert distance(parts, expected) < 1e-6


@pytest.mark.parametrize("tokens", [3, 24])
def test_router_logits_of_many_tokens(tokens: int) -> None:
    x, gain, weight = torch.randn(tokens, HIDDEN), torch.rand(HIDDEN), torch.randn(EXPERTS, HIDDEN).bfloat16()
    logits, expected = (torch.full((tokens, EXPERTS), float("nan")) for _ in range(2))
    router.router_logits(x, gain, weight, logits, eps=1e-6)
    router.router_logits_reference(x, gain, weight, expected, eps=1e-6)
    assert distance(logits, expected) < 1e-6
