"""Random weights: deterministic by seed and name, of the config's spread, quantised as asked."""

from __future__ import annotations

import pytest
import torch

from engine.model.hf.quantized_model import apply_quantized, empty_model, stored_names
from engine.model.hf.random_weights import random_weights
from engine.model.weights.inventory import Weight, check_quantized
from engine.model.weights.quantized_tensor import QuantizedTensor
from tests.model import tiny_moe


def values(weight: Weight) -> torch.Tensor:
    return weight.dequantize() if isinstance(weight, QuantizedTensor) else weight


@pytest.mark.parametrize("quantization", ["bf16", *tiny_moe.FORMATS])
def test_weights_fit_the_model_and_are_in_the_format(quantization: str) -> None:
    config = tiny_moe.config()
    loaded = random_weights(config, quantization, "cpu", seed=1)
    check_quantized(loaded.tensors, quantization)
    assert list(loaded.tensors) == stored_names(empty_model(config))
    assert (loaded.manifest.quantization, loaded.manifest.seed) == (quantization, 1)
    model = apply_quantized(empty_model(config), loaded.tensors, dtype=torch.float32, device="cpu")
    with torch.no_grad():
        assert torch.isfinite(model(torch.arange(9)[None]).logits).all()


def test_a_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (random_weights(tiny_moe.config(), "nf4", "cpu", seed) for seed in (1, 1, 2))
    name = "model.layers.0.mlp.experts.down_proj"
    for key, weight in first.tensors.items():
        assert torch.equal(values(weight), values(again.tensors[key])), key
    assert not torch.equal(values(first.tensors[name]), values(other.tensors[name]))


def test_a_layer_does_not_depend_on_the_ones_before_it() -> None:
    """Cutting a model short leaves the weights of the layers that stay."""
    short = random_weights(tiny_moe.config(num_hidden_layers=1), "nf4", "cpu", seed=1).tensors
    whole = random_weights(tiny_moe.config(), "nf4", "cpu", seed=1).tensors
    assert all(torch.equal(values(weight), values(whole[name])) for name, weight in short.items())


def test_every_format_rounds_the_same_numbers() -> None:
    name = "model.layers.1.mlp.experts.gate_up_proj"
    plain = random_weights(tiny_moe.config(), "bf16", "cpu", 1, dtype=torch.float32).tensors[name]
    assert isinstance(plain, torch.Tensor)
    assert abs(float(plain.std()) - 0.2) < 0.005
    for quantization in tiny_moe.FORMATS:
        rounded = values(random_weights(tiny_moe.config(), quantization, "cpu", 1).tensors[name])
        error = (rounded - plain).pow(2).mean().sqrt() / plain.std()
        assert 0 < error < 0.2, quantization


def test_a_tied_head_has_no_weight_of_its_own() -> None:
    config = tiny_moe.config(tie_word_embeddings=True)
    assert "lm_head.weight" not in random_weights(config, "nf4", "cpu", 1).tensors
    assert "lm_head.weight" in random_weights(config, "nf4", "cpu", 1, lm_head="nf4").tensors
