"""The kernels of wide steps in Triton's interpreter against their plain-torch references."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from engine.model.cpu.kv_blocks import BLOCK
from engine.model.kernels.attention import attention
from engine.model.kernels.attention.attention import Cache, HeadNorm, Step
from engine.model.kernels.device import launch, plane
from engine.model.kernels.products import stream, strips
from engine.model.kernels.routing import router
from tests.kernels.weights import distance, random_weight

EXPERTS, HIDDEN, INNER, CHOSEN = 5, 128, 64, 2


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("tokens", "live", "experts", "chosen", "size"),
    [
        (33, 31, 5, 2, 8), (5, 0, 5, 2, 8), (7, 7, 24, 8, 8), (130, 130, 5, 2, 32), (130, 90, 5, 2, 64),
        (12, 12, 1, 1, 8),
    ],
)  # fmt: skip
@pytest.mark.parametrize("logits", ["random", "ties", "one expert"])
def test_choosing_and_sorting(tokens: int, live: int, experts: int, chosen: int, size: int, logits: str) -> None:
    values = torch.randn(tokens, experts)
    if logits == "ties":
        values = values.round()
    elif logits == "one expert":
        values[:, :chosen] += 100.0
    alive, made = torch.tensor([live], dtype=torch.int32), []
    for choose, sort in (
        (router.choose_each, router.sort_pairs),
        (router.choose_each_reference, router.sort_pairs_reference),
    ):
        pairs = router.make_pairs(tokens, chosen, experts, size, values.device)
        choose(values, alive, pairs.ids, pairs.weights, chosen=chosen, norm_topk=True)
        sort(pairs, experts=experts)
        made.append(pairs)
    found, expected = made
    assert torch.equal(found.ids, expected.ids)
    assert torch.allclose(found.weights[: live * chosen], expected.weights[: live * chosen], atol=1e-6)
    assert torch.equal(found.order[: live * chosen], expected.order[: live * chosen])
    assert not found.progress[: 1 + len(found.groups[2])].any()
    used = expected.groups[2] > 0
    assert torch.equal(found.groups[2], expected.groups[2])
    assert torch.equal(found.groups[:, used], expected.groups[:, used])


Product = Callable[..., None]


def parts_of(product: Product, bits: int, logits: str, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a product makes of 21 tokens, of which the last two are padding, and what its reference does."""
    torch.manual_seed(0)
    tokens, live = 21, 19
    values = torch.randn(tokens, EXPERTS)
    if logits == "one expert":
        values[:, 3] += 100.0
    pairs = router.make_pairs(tokens, CHOSEN, EXPERTS, size, values.device)
    alive = torch.tensor([live], dtype=torch.int32)
    router.choose_each_reference(values, alive, pairs.ids, pairs.weights, chosen=CHOSEN, norm_topk=True)
    router.sort_pairs_reference(pairs, experts=EXPERTS)
    gate_up, down = random_weight(bits, EXPERTS, 2 * INNER, HIDDEN), random_weight(bits, EXPERTS, HIDDEN, INNER)
    x, made = torch.randn(tokens, HIDDEN).half(), []
    for function in (product, strips.strips_product_reference):
        inner, parts = torch.zeros(tokens * CHOSEN, INNER).half(), torch.full((tokens * CHOSEN, HIDDEN), 7.0)
        function(x, pairs, gate_up, down, inner, parts, chosen=CHOSEN)
        made.append(parts)
    assert (made[0][live * CHOSEN :] == 7.0).all(), "padding is left alone"
    return made[0], made[1]


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("shape", [(4, 1, 2, 2), (4, 1, 1, 1), (4, 2, 2, 1), (8, 4, 1, 1)])
@pytest.mark.parametrize("logits", ["random", "one expert"])
def test_experts_by_strips(
    bits: int, shape: tuple[int, int, int, int], logits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(launch.STRIPS, bits, (shape, shape))
    parts, expected = parts_of(strips.strips_product, bits, logits, 8)
    assert distance(parts, expected) < 1e-4


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("size", [8, 16])
@pytest.mark.parametrize("logits", ["random", "one expert"])
def test_both_products_in_one_launch_are_the_same_bits(
    bits: int, size: int, logits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "ONE_BY_ONE", 0)
    parts, expected = parts_of(stream.grouped_product, bits, logits, size)
    assert distance(parts, expected) < 1e-4
    monkeypatch.setitem(launch.STRIPS, bits, ((4, 1, 2, 1), (4, 1, 1, 1)))
    assert torch.equal(parts, parts_of(strips.strips_product, bits, logits, size)[0])


@pytest.mark.parametrize("tokens", [3, 24])
def test_router_logits(tokens: int) -> None:
    x, gain, weight = torch.randn(tokens, HIDDEN), torch.rand(HIDDEN), torch.randn(EXPERTS, HIDDEN).bfloat16()
    logits, expected = (torch.full((tokens, EXPERTS), float("nan")) for _ in range(2))
    router.router_logits(x, gain, weight, logits, eps=1e-6)
    router.router_logits_reference(x, gain, weight, expected, eps=1e-6)
    assert distance(logits, expected) < 1e-6


def test_a_combination_in_natural_order() -> None:
    parts, gain, x = torch.randn(6 * 4, HIDDEN), torch.rand(HIDDEN), torch.randn(6, HIDDEN)
    made = []
    for function in (plane.combine, plane.combine_reference):
        out, normed = x.clone(), torch.empty(6, HIDDEN).half()
        function(parts, out, gain, normed, torch.tensor([6]), chosen=4, eps=1e-6, plane=False)
        made.append((out, normed))
    assert torch.allclose(made[0][0], made[1][0], atol=1e-6)
    assert distance(made[0][1], made[1][1]) < 5e-4


@pytest.mark.parametrize("tokens", [1, 12, 33])
def test_rope_from_parts_and_attention_in_plane_order(tokens: int) -> None:
    """33 tokens: a long row among short ones is shared by several blocks."""
    heads, kv, dim, length, stretches = 4, 2, 64, 700, 3
    integer, blocks = torch.int32, -(-length // BLOCK)
    table = torch.randperm(tokens * blocks, dtype=integer).view(tokens, blocks)
    shape = (tokens * blocks, kv, BLOCK, dim)
    positions = torch.randint(0, 40, (tokens,), dtype=integer)
    positions[0] = 650
    step = Step(positions, torch.arange(tokens, dtype=integer), positions, torch.tensor([tokens], dtype=integer))
    turns = tuple(torch.randn(length, dim // 2) for _ in range(2))
    qkv = torch.randn(tokens, stretches, (heads + 2 * kv) * dim)
    norm = HeadNorm(torch.rand(dim), torch.rand(dim), None, 1e-6)
    keys, values = torch.randn(shape).half(), torch.randn(shape).half()
    scratch = attention.make_scratch(tokens, heads, kv, dim, qkv.device)
    made = []
    for rope, attend in (
        (attention.rope, attention.attention), (attention.rope_reference, attention.attention_reference)
    ):  # fmt: skip
        cache = Cache(keys.clone(), values.clone(), table)
        query, out = torch.zeros(tokens, heads * dim).half(), torch.full((tokens, heads * dim), float("nan")).half()
        rope(qkv, norm, turns, step, query, cache)
        attend(query, cache, step, scratch, out, plane=True)
        made.append((query, cache.keys, cache.values, out))
    for found, expected in zip(*made, strict=True):
        assert distance(found, expected) < 2e-3
