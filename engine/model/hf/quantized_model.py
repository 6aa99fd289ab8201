"""transformers' model with quantised weights: the model stays the model, only its weights change their form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import init_empty_weights
from accelerate.utils import set_module_tensor_to_device
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from engine.errors import ModelError
from engine.model.files.settings import is_tied
from engine.model.hf.experts import check_experts_module, is_experts_module, use_experts_forward
from engine.model.weights.inventory import HEAD, PLAIN, Weight, check_quantized, quantize_named, wanted_format
from engine.model.weights.quantized_linear import QuantizedLinear, QuantizedWeight
from engine.model.weights.quantized_tensor import QuantizedTensor


def empty_model(config: Any) -> PreTrainedModel:
    """The architecture of a transformers config with every parameter on `meta`: no memory, buffers real."""
    with init_empty_weights():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return model.eval()


def stored_names(model: PreTrainedModel, lm_head: str = PLAIN) -> list[str]:
    """The weights that make up a model, in its order; a tied head counts only where it is quantised by itself."""
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    return [name for name in names if name != HEAD or lm_head != PLAIN or not is_tied(model.config)]


def quantize_model(model: PreTrainedModel, quantization: str, *, lm_head: str = PLAIN) -> PreTrainedModel:
    """Replace linear layers and experts in place, one weight at a time; a tied head is untied when it is quantised.

    ModelError where a weight should be quantised and its module is of an unknown type.
    """
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        wanted = wanted_format(name, parameter.ndim, quantization, lm_head)
        if wanted != PLAIN:
            place_weight(model, name, quantize_named(name, parameter.detach(), wanted))
    check_quantized(model, quantization, lm_head)
    return model


def apply_quantized(
    model: PreTrainedModel, tensors: Mapping[str, Weight], *, dtype: torch.dtype, device: torch.device | str
) -> PreTrainedModel:
    """Give a meta model (`empty_model`) its weights: floats cast to `dtype`, quantised ones as they are.

    Buffers move to `device`; nothing stays on `meta`, or a ModelError names what the tensors lack or have too many.
    """
    expected = dict(model.named_parameters(remove_duplicate=False))
    unknown = sorted(set(tensors) - set(expected))
    if unknown:
        raise ModelError(f"the weights hold {unknown[0]!r}, which {type(model).__name__} does not have")
    for name, weight in tensors.items():
        if tuple(weight.shape) != tuple(expected[name].shape):
            raise ModelError(f"{name} is {tuple(weight.shape)}, the configuration says {tuple(expected[name].shape)}")
        if isinstance(weight, QuantizedTensor):
            place_weight(model, name, weight.to(device))
        else:
            set_module_tensor_to_device(model, name, device, value=weight, dtype=dtype)
    _tie_head(model, tensors)
    missing = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if missing:
        raise ModelError(f"the weights lack {missing[0]!r} and {len(missing) - 1} more of {type(model).__name__}")
    for name, _ in list(model.named_buffers()):
        set_module_tensor_to_device(model, name, device, value=model.get_buffer(name))
    return model.requires_grad_(False)


def place_weight(model: PreTrainedModel, name: str, weight: QuantizedTensor) -> None:
    """Put a quantised weight where the parameter `name` is, and choose our experts forward if it is an expert."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if isinstance(module, nn.Linear) and leaf == "weight":
        model.set_submodule(path, QuantizedLinear(weight, module.bias))
    elif is_experts_module(module) and len(weight.shape) == 3:
        check_experts_module(path, module)
        delattr(module, leaf)
        module.add_module(leaf, QuantizedWeight(weight))
        use_experts_forward(model)
    else:
        raise ModelError(f"cannot quantise {name}: {type(module).__name__} is neither a linear layer nor experts")


def _tie_head(model: PreTrainedModel, tensors: Mapping[str, Weight]) -> None:
    """A head that has no weight of its own shares the embedding's, where the config says so."""
    if HEAD not in tensors and is_tied(model.config):
        model.get_submodule("lm_head").weight = model.get_input_embeddings().weight
