"""What the decoder says where the machine has no memory for its keys and values; which models it leaves to others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from engine.config import EngineConfig
from engine.errors import ModelError
from engine.model.cpu.cpu_loader import read_weights
from engine.model.cpu.decoder import Decoder
from engine.model.files.source import resolve
from tests.kernels import tiny


def test_too_many_rows_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"1000000000 requests of 8192 tokens need .* GiB .* lower max_batch") as told:
        Decoder(tiny.shape(moe=False), tiny.floats(moe=False), slots=10**9, positions=8192, dtype=torch.float32)
    assert told.value.param == "max_batch"


@pytest.mark.parametrize(("kind", "settings"), [(LlamaForCausalLM, LlamaConfig), (Qwen3ForCausalLM, Qwen3Config)])
def test_biases_that_our_forward_lacks_leave_it_to_transformers(kind: Any, settings: Any, tmp_path: Path) -> None:
    """`attention_bias` gives the output product a bias too, without which the logits are others."""
    torch.manual_seed(3)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "vocab_size": 64}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    model = kind(settings(**shape, **heads, attention_bias=True)).eval()
    torch.nn.init.normal_(model.model.layers[0].self_attn.o_proj.bias)
    model.save_pretrained(tmp_path)
    read = read_weights(EngineConfig(model=str(tmp_path)), resolve(str(tmp_path)))
    assert read.model is not None
    tokens = torch.tensor([[3, 5, 7]])
    assert torch.equal(read.model(tokens).logits, model(tokens).logits)
