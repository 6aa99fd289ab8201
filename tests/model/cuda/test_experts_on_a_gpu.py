"""Products of many tokens on a GPU: the experts' in groups of 64 and of 128, which Hopper has a kernel of its own for,
by an A100's code too, and dense ones in parts; in bf16, which no interpreter has, as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.decode.other_card import OtherCard
from engine.model.kernels.device import launch
from engine.model.kernels.device.fragments import FragmentWeight
from engine.model.kernels.products import prefill, prefill_ampere, prefill_hopper
from engine.model.kernels.routing.groups import group_pairs
from tests.kernels.weights import distance, random_weight

pytestmark = [
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]  # fmt: skip
EXPERTS, HIDDEN, INNER, CHOSEN, TOKENS = 8, 512, 256, 2, 700
DEVICE = torch.device("cuda:0")


def on_the_device(bits: int, *shape: int) -> FragmentWeight:
    """A random weight; of 4 bits one with blocks whose scale is 0."""
    weight = random_weight(bits, *shape)
    if bits == 4:
        weight.scales[:, ::3, 1] = 0.0
    return replace(
        weight, words=weight.words.to(DEVICE), scales=weight.scales.to(DEVICE), table=weight.table.to(DEVICE)
    )


@pytest.fixture(params=["own", "sm_80"])
def code(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Whose code runs."""
    if request.param == "own":
        yield "own"
        return
    with OtherCard(80, tmp_path).active():
        yield "sm_80"


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("size", [64, 128])
def test_experts_of_many_tokens(bits: int, size: int, code: str) -> None:
    torch.manual_seed(0)
    weights = on_the_device(bits, EXPERTS, 2 * INNER, HIDDEN), on_the_device(bits, EXPERTS, HIDDEN, INNER)
    dtype = prefill.activation_dtype(weights[0], torch.empty(0, device=DEVICE))
    favour = torch.linspace(0, 2, EXPERTS, device=DEVICE)
    ids = (torch.randn(TOKENS, EXPERTS, device=DEVICE) + favour).topk(CHOSEN).indices.sort().values
    ids[-5:] = EXPERTS  # padding goes nowhere
    pairs, groups = group_pairs(ids, EXPERTS, size)
    counts = groups.count[groups.count > 0]
    assert (counts <= 64).any()
    assert (counts == size).any()
    assert prefill_hopper.suits(weights[0].words, *weights) == launch.is_hopper(weights[0].words)
    if code == "sm_80":
        assert prefill_ampere.suits(weights[0].words, *weights) == (bits == prefill_ampere.BITS)
    x, route = torch.randn(TOKENS, HIDDEN, device=DEVICE).to(dtype), torch.rand(TOKENS * CHOSEN, device=DEVICE)

    def parts_of(product: Callable[..., None], stored: torch.dtype) -> Tensor:
        inner = torch.full((TOKENS * CHOSEN, INNER), float("nan"), device=DEVICE, dtype=dtype)
        parts = torch.full((TOKENS * CHOSEN, HIDDEN), float("nan"), device=DEVICE, dtype=stored)
        product(x, pairs, route, groups, *weights, inner, parts, chosen=CHOSEN)
        return parts[: -5 * CHOSEN]

    exact = parts_of(prefill.experts_product, torch.float32)  # unrounded: bf16's own rounding is 1.7e-3
    for _ in range(3):
        assert torch.equal(parts_of(prefill.experts_product, torch.bfloat16), exact.bfloat16())
    assert distance(exact, parts_of(prefill.experts_product_reference, torch.float32)) < 1e-3


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_dense_products_in_parts(bits: int) -> None:
    torch.manual_seed(0)
    weight = on_the_device(bits, INNER, HIDDEN)
    x = torch.randn(130, HIDDEN, device=DEVICE).to(prefill.activation_dtype(weight, torch.empty(0, device=DEVICE)))
    parts, expected = torch.full((2, 130, prefill.splits_of(weight, 130), INNER), float("nan"), device=DEVICE)
    prefill.product_parts(x, weight, parts)
    prefill.product_parts_reference(x, weight, expected)
    assert parts.shape[1] > 1
    assert distance(parts, expected) < 1e-3
