"""Weights with their columns in an order of their own, in the interpreter, through every product against its reference.

References multiply inputs as they come with each column at its input's place (`unfragment`), so nothing that puts
inputs in order is on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engine.model.kernels.device import launch
from engine.model.kernels.device.fragments import Beside, FragmentWeight, unfragment
from engine.model.kernels.device.plane import plane_order
from engine.model.kernels.products import experts, linear, prefill, stream, strips
from engine.model.kernels.routing import groups, router
from tests.kernels.weights import distance, random_weight

EXPERTS, HIDDEN, INNER, CHOSEN = 5, 192, 64, 2
"""HIDDEN is no power of two."""


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def shuffled(*shape: int) -> FragmentWeight:
    """4 bits [..., N, K], the columns of each matrix in an order of their own."""
    order = torch.rand(*shape[:-2], shape[-1]).argsort(-1).int()
    return replace(random_weight(4, *shape), order=order)


def mixture() -> tuple[FragmentWeight, FragmentWeight]:
    """Gate and up, and down: its order is that of their rows."""
    return shuffled(EXPERTS, 2 * INNER, HIDDEN), random_weight(4, EXPERTS, HIDDEN, INNER)


def test_each_column_stands_at_its_inputs_place() -> None:
    weight = shuffled(2, 16, 64)
    assert weight.order is not None
    lying, whole = unfragment(replace(weight, order=None)), unfragment(weight)
    for expert, order in enumerate(weight.order.tolist()):
        assert order != sorted(order)
        for place, column in enumerate(order):
            assert torch.equal(whole[expert, :, column], lying[expert, :, place])


@pytest.mark.parametrize("tokens", [1, 3])
def test_a_matrix_for_few_tokens(tokens: int) -> None:
    x, weight, made = torch.randn(tokens, HIDDEN).half(), shuffled(64, HIDDEN), []
    for function in (linear.linear, linear.linear_reference):
        out, half = torch.ones(tokens, 64), torch.zeros(tokens, 64).half()
        function(x, weight, out, half=half)
        made.append((out, half))
    assert distance(made[0][0], made[1][0]) < 1e-6
    assert distance(made[0][1], made[1][1]) < 5e-4


@pytest.mark.parametrize("tokens", [1, 2])
def test_matrices_of_different_orders_behind_one_norm(tokens: int) -> None:
    x, gain = torch.randn(tokens, HIDDEN).half(), torch.rand(HIDDEN).half()
    weight, made = Beside((shuffled(64, HIDDEN), shuffled(32, HIDDEN), random_weight(4, 32, HIDDEN))), []
    for function in (linear.linear, linear.linear_reference):
        out = torch.full((tokens, 128), float("nan"))
        function(x, weight, out, gain=gain, eps=1e-6)
        made.append(out)
    assert distance(*made) < 5e-4, "what is normalised is rounded before the product, or the sums behind it"


def test_matrices_for_many_tokens() -> None:
    x, weight = torch.randn(12, HIDDEN).half(), Beside((shuffled(64, HIDDEN), shuffled(32, HIDDEN)))
    made = []
    for function in (prefill.product, prefill.product_reference):
        out = torch.ones(12, 96)
        function(x, weight, out, add=True)
        made.append(out)
    assert distance(*made) < 1e-6
    made = []
    for function in (prefill.product_parts, prefill.product_parts_reference):
        parts = torch.full((12, 3, 96), float("nan"))
        function(x, weight, parts)
        made.append(parts.sum(1))
    assert distance(*made) < 1e-6


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("norm_topk", [False, True])
def test_experts_of_tokens_alone(tokens: int, given: bool, norm_topk: bool) -> None:
    weights, logits, x = mixture(), torch.randn(tokens, EXPERTS), torch.randn(tokens, HIDDEN).half()
    pairs = router.lone_pairs(tokens, CHOSEN, x.device) if given else None
    if pairs is not None:
        live, choice = torch.tensor([tokens]), {"chosen": CHOSEN, "norm_topk": norm_topk}
        router.choose_each_reference(logits, live, pairs.ids, pairs.weights, pairs.groups[2], **choice)
    made = []
    for function in (experts.experts_one, experts.experts_one_reference):
        inner, out, half = torch.zeros(tokens * CHOSEN, INNER).half(), torch.ones(tokens, HIDDEN), torch.zeros_like(x)
        function(x, logits, *weights, inner, out, half, chosen=CHOSEN, norm_topk=norm_topk, pairs=pairs)
        made.append(out)
    assert distance(*made) < 1e-4


@pytest.mark.parametrize(("product", "size"), [
    (strips.strips_product, 8), (stream.grouped_product, 8), (stream.grouped_product, 16),
])  # fmt: skip
def test_experts_of_few_tokens(product: Callable[..., None], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 21 tokens the last two are padding."""
    monkeypatch.setattr(launch, "ONE_BY_ONE", 0)
    tokens, live, weights = 21, 19, mixture()
    logits, alive = torch.randn(tokens, EXPERTS), torch.tensor([live], dtype=torch.int32)
    logits[:12, 3] += 100.0
    pairs = router.make_pairs(tokens, CHOSEN, EXPERTS, size, logits.device)
    router.choose_each_reference(logits, alive, pairs.ids, pairs.weights, chosen=CHOSEN, norm_topk=True)
    router.sort_pairs_reference(pairs, experts=EXPERTS)
    x, made = torch.randn(tokens, HIDDEN).half(), []
    for function in (product, strips.strips_product_reference):
        inner, parts = torch.zeros(tokens * CHOSEN, INNER).half(), torch.full((tokens * CHOSEN, HIDDEN), 7.0)
        function(x, pairs, *weights, inner, parts, chosen=CHOSEN)
        made.append(parts)
    assert (made[0][live * CHOSEN :] == 7.0).all(), "padding is left alone"
    assert distance(*made) < 1e-4


@pytest.mark.parametrize("size", [16, 64])
def test_experts_of_many_tokens(size: int) -> None:
    tokens, weights = 40, mixture()
    x, ids = torch.randn(tokens, HIDDEN).half(), torch.randn(tokens, EXPERTS).topk(CHOSEN).indices
    pairs, found = groups.group_pairs(ids, EXPERTS, size)
    route, made = torch.rand(tokens * CHOSEN), []
    x = x[:, plane_order(HIDDEN, x.device)]
    for function in (prefill.experts_product, prefill.experts_product_reference):
        inner, parts = torch.zeros(tokens * CHOSEN, INNER).half(), torch.full((tokens * CHOSEN, HIDDEN), float("nan"))
        function(x, pairs, route, found, *weights, inner, parts, chosen=CHOSEN)
        made.append(parts)
    assert distance(*made) < 1e-3


def test_an_order_that_changes_nothing_gives_the_same_bits() -> None:
    plain, made = random_weight(4, 64, HIDDEN), []
    x: Tensor = torch.randn(3, HIDDEN).half()
    for weight in (plain, replace(plain, order=torch.arange(HIDDEN, dtype=torch.int32))):
        out = torch.full((3, 64), float("nan"))
        linear.linear(x, weight, out)
        made.append(out)
    assert torch.equal(*made)
