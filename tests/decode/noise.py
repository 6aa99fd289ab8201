"""An engine that speaks the embedded model's tokens at a small part of its cost: two narrow random layers.

For what holds whatever the model says. Its texts are noise that obeys the constraint, the same for a seed.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from engine import Engine, EngineConfig
from engine.model.architecture.shape import Shape
from engine.model.cpu.cpu_runner import CpuRunner
from engine.model.cpu.decoder import Decoder
from engine.model.files.converted import converted_gguf, saved_settings
from engine.model.files.source import resolve
from engine.model.loaded_model import LoadedModel, tokenizer_of

NARROW = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}


def noise_engine(**settings: Any) -> Engine:
    """`Engine(**settings)` of the embedded model, with other weights."""
    config = EngineConfig(**settings)
    source = resolve(config.model)
    assert source.path is not None
    folder = converted_gguf(source.path, config.cache_folder)
    real = saved_settings(folder)
    assert real is not None
    sizes = {"slots": config.max_batch, "positions": config.max_sequence}
    shape = Shape.from_config(SimpleNamespace(**{**vars(real), **NARROW}))
    network = Decoder(shape, weights(shape), dtype=torch.float32, **sizes)
    runner = CpuRunner(network, max_batch=config.max_batch, max_sequence=config.max_sequence, quantization="fp32")
    tokenizer = tokenizer_of(config, source, folder, real)
    return Engine(config, loaded=LoadedModel(config.model, None, runner, tokenizer))


def weights(shape: Shape) -> dict[str, torch.Tensor]:
    """Those of a Llama, the head tied to the embedding."""
    generator = torch.Generator().manual_seed(7)
    hidden, inner, heads = shape.hidden, NARROW["intermediate_size"], shape.heads * shape.head_dim
    keys = shape.kv_heads * shape.head_dim

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=generator) / sizes[-1] ** 0.5

    made = {"model.embed_tokens.weight": normal(shape.vocab, hidden), "model.norm.weight": torch.ones(hidden)}
    for i in range(shape.layers):
        layer = {
            "input_layernorm": torch.ones(hidden), "post_attention_layernorm": torch.ones(hidden),
            "self_attn.q_proj": normal(heads, hidden), "self_attn.k_proj": normal(keys, hidden),
            "self_attn.v_proj": normal(keys, hidden), "self_attn.o_proj": normal(hidden, heads),
            "mlp.gate_proj": normal(inner, hidden), "mlp.up_proj": normal(inner, hidden),
            "mlp.down_proj": normal(hidden, inner),
        }  # fmt: skip
        made |= {f"model.layers.{i}.{name}.weight": tensor for name, tensor in layer.items()}
    return made
