"""A GGUF file read weight by weight under the names that transformers' model has, each kept in its own blocks.

Architectures: llama, qwen2, qwen3, qwen3moe. llama.cpp interleaves the halves of Llama's q and k rows; here they are
put back, which moves whole rows of codes and scales and changes none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from gguf import LlamaFileType
from torch import Tensor

from engine.errors import ModelError
from engine.model.files.places import Place
from engine.model.formats.gguf_blocks import read_blocks
from engine.model.formats.gguf_file import GgufFile, GgufTensor
from engine.model.weights.inventory import AnyWeight
from engine.model.weights.quantized_tensor import QuantizedTensor
from engine.model.weights.stacked import StackedWeight

ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen3moe": "qwen3_moe"}
FLOATS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
}
_EXPERTS = {"ffn_gate_exps": "gate_up_proj", "ffn_up_exps": "gate_up_proj", "ffn_down_exps": "down_proj"}


def is_read(file: GgufFile) -> bool:
    """Whether this reader knows the architecture."""
    told = file.settings
    experts = told.get(f"{told.get('general.architecture')}.expert_count", 0)
    return told.get("general.architecture") in ARCHITECTURES and (not experts or "qwen" in told["general.architecture"])


def label_of(file: GgufFile) -> str:
    """What the Result's `quantization` says: `q4_k_m`, or the type that most elements have."""
    kind = file.settings.get("general.file_type")
    known = {member.value: member.name for member in LlamaFileType}
    if kind in known and known[kind].startswith("MOSTLY_"):
        return str(known[kind]).removeprefix("MOSTLY_").lower()
    counts: Counter[str] = Counter()
    for tensor in file.tensors.values():
        counts[tensor.type] += tensor.data.size
    return counts.most_common(1)[0][0] if counts else "unknown"


def config_of(file: GgufFile) -> dict[str, Any]:
    """The transformers config that a file's settings tell. ModelError: scaled rotary embeddings, or one is absent."""
    told, architecture = file.settings, str(file.settings["general.architecture"])
    if told.get(f"{architecture}.rope.scaling.type", "none") != "none" or "rope_freqs.weight" in file.tensors:
        raise ModelError(f"{file.path} has scaled rotary embeddings, which are not read from GGUF", param="model")

    def get(name: str, default: Any = None) -> Any:
        value = told.get(f"{architecture}.{name}", default)
        if value is None:
            raise ModelError(f"{file.path} lacks the setting {architecture}.{name}", param="model")
        return value

    heads, hidden = get("attention.head_count"), get("embedding_length")
    config = {
        "model_type": ARCHITECTURES[architecture],
        "hidden_size": hidden,
        "intermediate_size": get("feed_forward_length", hidden),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv", heads),
        "head_dim": get("attention.key_length", hidden // heads),
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(get("rope.freq_base", 10_000.0))},
        "max_position_embeddings": get("context_length"),
        "hidden_act": "silu",
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "vocab_size": _tensor(file, "token_embd.weight").shape[0],
        "bos_token_id": told.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": told.get("tokenizer.ggml.eos_token_id"),
    }
    if architecture == "qwen3moe":
        config |= {
            "num_experts": get("expert_count"),
            "num_experts_per_tok": get("expert_used_count"),
            "moe_intermediate_size": get("expert_feed_forward_length"),
            "norm_topk_prob": True,  # llama.cpp computes it so for this architecture, and files do not say it
        }
    return config


class GgufCheckpoint:
    """The weights of a file, for the model of `config`."""

    def __init__(self, file: GgufFile, config: Any) -> None:
        self._file, self._config = file, config
        self.activations: str | None = None
        self.unused: list[str] = []
        self.skipped = ""
        self.held: dict[str, Tensor] = {}
        """Tensors' bytes that were read already, by their name in the file; each is let go of when it is used."""
        self._sources: dict[str, list[GgufTensor]] = {}
        for tensor in file.tensors.values():
            self._sources.setdefault(self._name(tensor.name), []).append(tensor)

    @property
    def names(self) -> Iterable[str]:
        """The model's weights that the file holds."""
        return self._sources

    def require(self, names: Iterable[str]) -> None:
        """ModelError that names a weight which the file lacks."""
        missing = [name for name in names if name not in self._sources]
        if missing:
            more = f" and {len(missing) - 1} more weights" if len(missing) > 1 else ""
            raise ModelError(f"{self._file.path} lacks {missing[0]!r}{more}", param="model")

    def places(self, name: str) -> dict[str, Place]:
        """Where what a weight of the model is made of lies, by tensor."""
        return {tensor.name: tensor.place for tensor in self._sources[name]}

    def read_weight(self, name: str) -> AnyWeight:
        """One weight, in its blocks; experts as the matrices that they are made of."""
        tensors = self._sources[name]
        if name.endswith("experts.gate_up_proj"):
            gate, up = (_tensor(self._file, self._part(tensors[0].name, part)) for part in ("gate", "up"))
            count, rows = gate.shape[:2]
            halves = [self._rows(half) for half in (gate, up)]
            cut = [slice(e * rows, (e + 1) * rows) for e in range(count)]
            pieces = [h.rows(part) if isinstance(h, QuantizedTensor) else h[part] for part in cut for h in halves]
            return StackedWeight(tuple(pieces), (count, 2 * rows, gate.shape[2]))
        weight = self._rows(tensors[0])
        if isinstance(weight, Tensor):
            weight = weight.view(tensors[0].shape)
        elif len(tensors[0].shape) == 3:
            return StackedWeight((weight,), tensors[0].shape)
        return self._put_back(name, weight)

    def why_float(self, _: str) -> str:
        """Why a weight is not quantised."""
        return "as the file has them"

    def _rows(self, tensor: GgufTensor) -> Tensor | QuantizedTensor:
        """All leading axes as rows."""
        held = self.held.pop(tensor.name, None)
        data = torch.from_numpy(np.array(tensor.data)) if held is None else held
        if tensor.type in FLOATS:
            return data.view(FLOATS[tensor.type])
        return read_blocks(data, tensor.type, tensor.shape[-1])

    def _put_back(self, name: str, weight: Tensor | QuantizedTensor) -> AnyWeight:
        """Llama's q and k rows in transformers' order: the halves of a head's rows, not pairs of them."""
        part = re.search(r"self_attn\.([qk])_proj\.", name)
        if self._config.model_type != "llama" or part is None:
            return weight
        heads = self._config.num_attention_heads if part[1] == "q" else self._config.num_key_value_heads
        index = torch.arange(weight.shape[0]).view(heads, -1, 2).transpose(1, 2).reshape(-1).to(weight.device)
        return weight.rows(index) if isinstance(weight, QuantizedTensor) else weight[index]

    def _name(self, name: str) -> str:
        match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
        if match and match[2] in _EXPERTS:
            return f"model.layers.{match[1]}.mlp.experts.{_EXPERTS[match[2]]}"
        if not match or match[2] not in _NAMES:
            raise ModelError(f"{self._file.path}: {name} is no weight of {self._config.model_type}", param="model")
        place = f"model.layers.{match[1]}." if match[1] else ""
        return f"{place}{_NAMES[match[2]]}.{match[3]}"

    def _part(self, name: str, part: str) -> str:
        return re.sub(r"ffn_\w+_exps", f"ffn_{part}_exps", name)


def _tensor(file: GgufFile, name: str) -> GgufTensor:
    if name not in file.tensors:
        raise ModelError(f"{file.path} lacks {name}", param="model")
    return file.tensors[name]
