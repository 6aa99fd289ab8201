"""Our experts forward against transformers' own, on float and quantised weights and on lopsided routing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts

from engine.errors import ModelError
from engine.model.hf.experts import EXPERTS_IMPLEMENTATION, check_experts_module, experts_forward, is_experts_module
from engine.model.weights.quantized_linear import QuantizedWeight
from engine.model.weights.rounding import quantize_tensor
from tests.model import tiny_moe

E, H = 8, 64


def experts() -> Qwen3MoeExperts:
    torch.manual_seed(1)
    config = copy.deepcopy(tiny_moe.config())
    config._experts_implementation = "eager"
    module = Qwen3MoeExperts(config)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module.requires_grad_(False)


def quantized(module: Qwen3MoeExperts, quantization: str) -> tuple[Qwen3MoeExperts, Qwen3MoeExperts]:
    """The module with quantised weights, and one with the same weights dequantised."""
    packed, plain = copy.deepcopy(module), copy.deepcopy(module)
    for name in ("gate_up_proj", "down_proj"):
        weight = quantize_tensor(getattr(module, name), quantization)
        getattr(plain, name).copy_(weight.dequantize())
        delattr(packed, name)
        packed.add_module(name, QuantizedWeight(weight))
    packed.config._experts_implementation = EXPERTS_IMPLEMENTATION
    return packed, plain


def routings() -> dict[str, tuple[Tensor, Tensor]]:
    """Index [T, k] and weights [T, k]; each case leaves an expert empty except 'every expert'."""
    torch.manual_seed(2)
    cases = {
        "one token": torch.tensor([[3, 5]]),
        "all on one expert": torch.full((9, 1), 6),
        "last and first": torch.tensor([[7, 0]] * 5),
        "every expert": torch.arange(E).repeat(2).view(8, 2),
        "random": torch.stack([torch.randperm(E - 1)[:2] for _ in range(33)]),
        "all experts of a token": torch.arange(E).expand(3, E),
    }
    return {name: (index, torch.rand(index.shape)) for name, index in cases.items()}


@pytest.mark.parametrize("case", list(routings()))
def test_float_experts_give_transformers_result(case: str) -> None:
    index, share = routings()[case]
    hidden = torch.randn(len(index), H)
    module = experts()
    assert torch.equal(experts_forward(module, hidden, index, share), module(hidden, index, share))


@pytest.mark.parametrize("quantization", tiny_moe.FORMATS)
@pytest.mark.parametrize("case", list(routings()))
def test_quantised_experts_give_transformers_result_on_dequantised_weights(case: str, quantization: str) -> None:
    index, share = routings()[case]
    hidden = torch.randn(len(index), H)
    packed, plain = quantized(experts(), quantization)
    assert torch.equal(packed(hidden, index, share), plain(hidden, index, share))


def test_rows_may_be_permuted() -> None:
    index, share = routings()["random"]
    hidden = torch.randn(len(index), H)
    packed, _ = quantized(experts(), "nf4")
    order = torch.randperm(len(index))
    straight = packed(hidden, index, share)[order]
    assert torch.allclose(packed(hidden[order], index[order], share[order]), straight, rtol=1e-5, atol=1e-6)


def test_an_absent_expert_adds_nothing() -> None:
    """Id E marks an expert that lives elsewhere."""
    packed, _ = quantized(experts(), "nf4")
    hidden = torch.randn(2, H)
    share = torch.rand(2, 2)
    alone = packed(hidden, torch.tensor([[1], [2]]), share[:, :1])
    assert torch.equal(packed(hidden, torch.tensor([[1, E], [2, E]]), share), alone)


def test_swapped_experts_are_noticed() -> None:
    """The comparison above can fail: two experts exchanged give another result."""
    index, share = routings()["random"]
    hidden = torch.randn(len(index), H)
    packed, plain = quantized(experts(), "nf4")
    plain.down_proj.copy_(plain.down_proj[[1, 0, 2, 3, 4, 5, 6, 7]])
    assert not torch.allclose(packed(hidden, index, share), plain(hidden, index, share), atol=1e-2)


def test_transposed_experts_are_refused() -> None:
    module = experts()
    assert is_experts_module(module)
    module.is_transposed = True
    with pytest.raises(ModelError, match=r"layers.3.mlp.experts \(Qwen3MoeExperts\): is_transposed"):
        check_experts_module("layers.3.mlp.experts", module)
