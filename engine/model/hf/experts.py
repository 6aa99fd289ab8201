"""Our experts forward, registered with transformers' experts interface: its MoE models then run on quantised experts.

transformers 5 keeps the experts of a layer as two 3-D parameters, `gate_up_proj` [E, 2I, H] and `down_proj` [E, H, I],
and lets `config._experts_implementation` name the function that runs them. bitsandbytes replaces `nn.Linear` only, so
these parameters - 29 of 30.5 billion weights - stay in bf16 without a word; here they become `QuantizedWeight`s.
This forward runs expert by expert, reads the chosen ones back to the host, and is the reference and the fallback.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from engine.errors import ModelError
from engine.model.weights.quantized_linear import QuantizedWeight

EXPERTS_IMPLEMENTATION = "maskloop"
"""The value of `config._experts_implementation` that selects `experts_forward`."""
_UNSUPPORTED = ("is_transposed", "has_post_expert_norm")


def experts_forward(module: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """hidden_states [T, H], top_k_index [T, k] and top_k_weights [T, k] -> [T, H] in hidden_states' dtype.

    Weights may be quantised or float. Ids of E and more (an absent expert under expert parallelism) add nothing.
    Cost: one host synchronisation, and one dequantised expert in memory at a time. A module's `seen(weight, expert,
    inputs)`, where it has one, is told what each expert is multiplied with.
    """
    result = torch.zeros_like(hidden_states)
    up_name = "gate_up_proj" if getattr(module, "has_gate", True) else "up_proj"
    up, down = getattr(module, up_name), module.down_proj
    up_bias, down_bias = getattr(module, f"{up_name}_bias", None), getattr(module, "down_proj_bias", None)
    seen = getattr(module, "seen", _unseen)
    for expert in torch.unique(top_k_index).tolist():
        if expert >= module.num_experts:
            continue
        tokens, place = torch.where(top_k_index == expert)
        seen(up_name, expert, hidden_states[tokens])
        hidden = linear(hidden_states[tokens], _matrix(up, expert, hidden_states.dtype), _row(up_bias, expert))
        hidden = _activate(module, hidden)
        seen("down_proj", expert, hidden)
        hidden = linear(hidden, _matrix(down, expert, hidden_states.dtype), _row(down_bias, expert))
        hidden = hidden * top_k_weights[tokens, place, None]
        result.index_add_(0, tokens, hidden.to(result.dtype))
    return result


def use_experts_forward(model: PreTrainedModel) -> None:
    """Let every experts module of this model run through `experts_forward`."""
    model.config._experts_implementation = EXPERTS_IMPLEMENTATION


def is_experts_module(module: nn.Module) -> bool:
    """Whether transformers dispatches this module's forward through its experts interface."""
    return hasattr(module, "is_transposed") and hasattr(module, "num_experts") and hasattr(module, "down_proj")


def check_experts_module(name: str, module: nn.Module) -> None:
    """ModelError where the weights are laid out in a way that `experts_forward` does not know."""
    for flag in _UNSUPPORTED:
        if getattr(module, flag, False):
            raise ModelError(f"cannot quantise the experts {name} ({type(module).__name__}): {flag} is not supported")


def _activate(module: Any, hidden: Tensor) -> Tensor:
    if not getattr(module, "has_gate", True):
        return module.act_fn(hidden)  # type: ignore[no-any-return]  # a Module, whose attributes are untyped
    return module._apply_gate(hidden)  # type: ignore[no-any-return]  # as above


def _unseen(weight: str, expert: int, inputs: Tensor) -> None:
    """Nobody looks on."""


def _matrix(weight: Any, expert: int, dtype: torch.dtype) -> Tensor:
    if isinstance(weight, QuantizedWeight):
        return weight.weight[expert].dequantize(dtype)
    return weight[expert]  # type: ignore[no-any-return]  # as above


def _row(bias: Tensor | None, expert: int) -> Tensor | None:
    return None if bias is None else bias[expert]


ALL_EXPERTS_FUNCTIONS.register(EXPERTS_IMPLEMENTATION, experts_forward)
