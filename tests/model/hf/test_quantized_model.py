"""transformers' model on quantised weights equals transformers' model on the dequantised ones: by layer, by token."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from engine.errors import ModelError
from engine.model.checkpoint.checkpoint import load_checkpoint
from engine.model.hf.quantized_model import apply_quantized, empty_model, quantize_model
from engine.model.quantize import quantize_checkpoint
from engine.model.weights.inventory import check_quantized, named_weights
from engine.model.weights.quantized_linear import QuantizedLinear, QuantizedWeight
from engine.model.weights.quantized_tensor import QuantizedTensor
from tests.model import tiny_moe

PROMPT = torch.arange(17)[None] * 29 % 512


def dequantized_twin(quantized: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """transformers' model, loaded by transformers, with the values of the quantised weights and its own experts."""
    twin = tiny_moe.load(folder)
    twin.set_experts_implementation("eager")
    for name, weight in named_weights(quantized):
        if isinstance(weight, QuantizedTensor):
            twin.get_parameter(name).copy_(weight.dequantize())
    return twin


def from_shards(folder: Path, out: Path, quantization: str, lm_head: str = "bf16") -> PreTrainedModel:
    quantize_checkpoint(folder, out, quantization, lm_head=lm_head, file_bytes=1 << 18)
    loaded = load_checkpoint(out, "cpu")
    return apply_quantized(empty_model(tiny_moe.config()), loaded.tensors, dtype=torch.float32, device="cpu")


def greedy(model: PreTrainedModel, tokens: int) -> list[int]:
    with torch.no_grad():
        return model.generate(PROMPT, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)[0].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("quantization", tiny_moe.FORMATS)
def test_200_greedy_tokens_and_every_layer_are_the_references(
    quantization: str, moe_folder: Path, tmp_path: Path
) -> None:
    quantized = from_shards(moe_folder, tmp_path / "out", quantization)
    twin = dequantized_twin(quantized, moe_folder)
    with torch.no_grad():
        ours, reference = (m(PROMPT, output_hidden_states=True) for m in (quantized, twin))
    for layer, (a, b) in enumerate(zip(ours.hidden_states, reference.hidden_states, strict=True)):
        assert torch.equal(a, b), f"layer {layer} differs by {(a - b).abs().max()}"
    assert torch.equal(ours.logits, reference.logits)
    assert greedy(quantized, 200) == greedy(twin, 200)
    with torch.no_grad():
        loss = (tiny_moe.model()(PROMPT).logits - ours.logits).abs().max()
    assert loss > 1e-3, "the quantised model equals the unquantised one: nothing was quantised"


def test_quantising_in_memory_is_quantising_by_shards(moe_folder: Path, tmp_path: Path) -> None:
    by_shards = dict(named_weights(from_shards(moe_folder, tmp_path / "out", "nf4", lm_head="int8")))
    in_memory = dict(named_weights(quantize_model(tiny_moe.load(moe_folder), "nf4", lm_head="int8")))
    assert by_shards.keys() == in_memory.keys()
    for name, weight in in_memory.items():
        other = by_shards[name]
        if isinstance(weight, QuantizedTensor):
            assert isinstance(other, QuantizedTensor)
            assert all(torch.equal(part, other.parts()[key]) for key, part in weight.parts().items()), name
        else:
            assert torch.equal(weight, other), name


def test_every_linear_layer_and_expert_is_replaced_and_the_rest_stays(moe_folder: Path) -> None:
    model = quantize_model(tiny_moe.load(moe_folder), "nf4")
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert linear == ["lm_head"]
    assert sum(isinstance(m, QuantizedLinear) for m in model.modules()) == 4 * 4
    assert sum(type(m) is QuantizedWeight for m in model.modules()) == 4 * 2
    floats = {name for name, _ in model.named_parameters()}
    assert all(
        "norm" in name or name.endswith((".gate.weight", "embed_tokens.weight", "lm_head.weight")) for name in floats
    )


def test_a_tied_head_is_untied_when_it_is_quantised() -> None:
    model = quantize_model(tied_llama(), "nf4", lm_head="int8")
    head = model.get_submodule("lm_head")
    assert isinstance(head, QuantizedLinear)
    embedding = model.get_input_embeddings().weight
    assert isinstance(embedding, nn.Parameter)
    assert torch.allclose(head.weight.dequantize(), embedding, atol=float(embedding.abs().max()) / 127)


def test_a_tied_head_that_stays_float_shares_the_embedding() -> None:
    source = quantize_model(tied_llama(), "nf4")
    tensors = dict(named_weights(source))
    assert "lm_head.weight" not in tensors
    model = apply_quantized(empty_model(source.config), tensors, dtype=torch.float32, device="cpu")
    assert model.get_submodule("lm_head").weight is model.get_input_embeddings().weight
    with torch.no_grad():
        assert torch.equal(model(PROMPT % 100).logits, source(PROMPT % 100).logits)


def test_casting_the_model_leaves_codes_and_scales_alone(moe_folder: Path) -> None:
    model = quantize_model(tiny_moe.load(moe_folder), "nf4-dq").to(torch.bfloat16)
    weights = [w for _, w in named_weights(model) if isinstance(w, QuantizedTensor)]
    assert {w.packed.dtype for w in weights} == {torch.uint8}
    assert {w.nested.absmax.dtype for w in weights if w.nested} == {torch.float32}
    with torch.no_grad():
        assert model(PROMPT).logits.dtype == torch.bfloat16


def test_what_should_be_quantised_and_is_not_is_refused(moe_folder: Path) -> None:
    model = quantize_model(tiny_moe.load(moe_folder), "nf4")
    check_quantized(model, "nf4")
    experts = model.get_submodule("model.layers.2.mlp.experts")
    del experts.down_proj
    experts.register_parameter("down_proj", nn.Parameter(torch.zeros(8, 64, 96)))
    with pytest.raises(
        ModelError, match=r"model\.layers\.2\.mlp\.experts\.down_proj \(49,152 weights\) is fp32, not nf4"
    ):
        check_quantized(model, "nf4")
    with pytest.raises(ModelError, match=r"lm_head\.weight"):
        check_quantized(model, "nf4", head="nf4")


def test_a_weight_in_an_unknown_kind_of_module_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(64, 64))

    model = tied_llama()
    model.model.layers[1].mlp.extra = Odd()
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.extra\.weight: Odd is neither a linear layer nor experts"):
        quantize_model(model, "nf4")


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_weights_that_do_not_fit_the_model_are_refused(change: str) -> None:
    source = tied_llama()
    tensors = dict(named_weights(source))
    name = "model.layers.0.mlp.up_proj.weight"
    if change == "missing":
        del tensors[name]
    elif change == "unknown":
        tensors["model.layers.9.extra"] = torch.ones(1)
    else:
        tensors[name] = torch.ones(3, 3)
    with pytest.raises(ModelError, match=r"extra" if change == "unknown" else "up_proj"):
        apply_quantized(empty_model(source.config), tensors, dtype=torch.float32, device="cpu")


def tied_llama() -> LlamaForCausalLM:
    torch.manual_seed(5)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=100,
        tie_word_embeddings=True,
    )
    return copy.deepcopy(LlamaForCausalLM(config).eval().requires_grad_(False))
