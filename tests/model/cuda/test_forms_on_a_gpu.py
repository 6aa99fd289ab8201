"""Every form of other tools' formats through every product of kernels on a GPU, where codes are decoded by assembly.

Kernels compute what `unfragment` tells, with sums in another order: 2e-6; 6e-4 where minima are, since a kernel rounds
the product less the minimum once where `unfragment` rounds twice; through two products 1e-3, since what lies between is
rounded to fp16.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bench.decode.random_forms import FORMS, Maker
from engine.model.kernels.device import launch
from engine.model.kernels.device.forms import MINIMA
from engine.model.kernels.device.fragments import unfragment
from engine.model.kernels.products import experts, linear, prefill, prefill_hopper, stream, strips
from engine.model.kernels.routing import groups, router
from tests.kernels.weights import distance

pytestmark = [
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]  # fmt: skip
EXPERTS, HIDDEN, INNER, CHOSEN = 8, 512, 256, 2
DEVICE = torch.device("cuda:0")


def bound(name: str) -> float:
    return 6e-4 if FORMS[name].second == MINIMA else 2e-6


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", FORMS)
def test_a_matrix(name: str) -> None:
    weight = Maker(name, DEVICE).weight(None, 384, HIDDEN)
    whole = unfragment(weight)
    for tokens in (1, 3, 12):
        x = torch.randn(tokens, HIDDEN, device=DEVICE).half()
        out = torch.full((tokens, 384), float("nan"), device=DEVICE)
        linear.linear(x, weight, out)
        assert distance(out, x.float() @ whole.t()) < bound(name), tokens
    order = prefill.plane_order(HIDDEN, DEVICE)
    for tokens in (12, 40):
        x = torch.randn(tokens, HIDDEN, device=DEVICE).half()
        out = torch.full((tokens, 2, 384), float("nan"), device=DEVICE)
        prefill.product_parts(x[:, order].contiguous(), weight, out)
        assert distance(out.sum(1), x.float() @ whole.t()) < bound(name), tokens
    expanded = torch.full((384, HIDDEN), float("nan"), device=DEVICE).half()
    prefill.expand(weight, expanded)
    natural = torch.empty_like(expanded)
    natural[:, order] = expanded
    assert distance(natural, unfragment(replace(weight, order=None))) < 5e-4


@pytest.mark.parametrize("name", FORMS)
def test_a_mixture_of_experts(name: str) -> None:
    maker = Maker(name, DEVICE)
    weights = maker.weight(EXPERTS, 2 * INNER, HIDDEN), maker.weight(EXPERTS, HIDDEN, INNER, ordered=False)
    x, logits = torch.randn(1, HIDDEN, device=DEVICE).half(), torch.randn(1, EXPERTS, device=DEVICE)
    results = []
    for one in (experts.experts_one, experts.experts_one_reference):
        scratch, half = torch.empty(CHOSEN, INNER, device=DEVICE).half(), torch.empty_like(x)
        out = torch.ones(1, HIDDEN, device=DEVICE)
        one(x, logits, *weights, scratch, out, half, chosen=CHOSEN, norm_topk=True)
        results.append(out)
    assert distance(*results) < 1e-3
    for tokens, size in ((2, 8), (4, 8), (40, 8)):
        x, logits = torch.randn(tokens, HIDDEN, device=DEVICE).half(), torch.randn(tokens, EXPERTS, device=DEVICE)
        pairs = router.make_pairs(tokens, CHOSEN, EXPERTS, size, x.device)
        live = torch.tensor([tokens], dtype=torch.int32, device=DEVICE)
        router.choose_each_reference(logits, live, pairs.ids, pairs.weights, chosen=CHOSEN, norm_topk=True)
        router.sort_pairs_reference(pairs, experts=EXPERTS)
        results = []
        for product in (strips.strips_product, stream.grouped_product, strips.strips_product_reference):
            scratch = torch.empty(CHOSEN * tokens, INNER, device=DEVICE).half()
            parts = torch.full((CHOSEN * tokens, HIDDEN), float("nan"), device=DEVICE)
            pairs.progress.zero_()
            product(x, pairs, *weights, scratch, parts, chosen=CHOSEN)
            results.append(parts)
        assert distance(results[0], results[2]) < 1e-3, tokens
        assert distance(results[1], results[2]) < 1e-3, tokens


@pytest.mark.parametrize("name", FORMS)
def test_the_experts_of_a_prefill(name: str) -> None:
    maker = Maker(name, DEVICE)
    weights = maker.weight(EXPERTS, 2 * INNER, HIDDEN), maker.weight(EXPERTS, HIDDEN, INNER, ordered=False)
    order = prefill.plane_order(HIDDEN, DEVICE)
    assert prefill_hopper.suits(weights[0].words, *weights) == launch.is_hopper(weights[0].words)
    for size in (32, 128):
        tokens = 3 * size
        x, logits = torch.randn(tokens, HIDDEN, device=DEVICE).half(), torch.randn(tokens, EXPERTS, device=DEVICE)
        ids = logits.topk(CHOSEN).indices.int().reshape(-1)
        pairs, sorted_groups = sorted_by_expert(ids, size)
        route = torch.rand(CHOSEN * tokens, device=DEVICE)
        results = []
        for product in (prefill.experts_product, prefill.experts_product_reference):
            scratch = torch.zeros(CHOSEN * tokens, INNER, device=DEVICE).half()
            parts = torch.full((CHOSEN * tokens, HIDDEN), float("nan"), device=DEVICE)
            product(
                x[:, order].contiguous(), pairs, route, sorted_groups, *weights, scratch, parts, chosen=CHOSEN
            )  # fmt: skip
            results.append(parts)
        assert distance(*results) < 1e-3, size


def sorted_by_expert(ids: torch.Tensor, size: int) -> tuple[torch.Tensor, groups.Groups]:
    """Pairs in the order of their experts, and groups of at most `size` of them."""
    order = torch.argsort(ids.long(), stable=True).int()
    found: list[tuple[int, int, int]] = []
    for expert in range(EXPERTS):
        places = (ids[order.long()] == expert).nonzero().flatten().tolist()
        found += [(expert, places[at], min(size, len(places) - at)) for at in range(0, len(places), size)]
    columns = (torch.tensor(column, dtype=torch.int32, device=ids.device) for column in zip(*found, strict=True))
    return order, groups.Groups(*columns, size)
