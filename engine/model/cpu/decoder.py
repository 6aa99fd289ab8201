"""A decoder-only transformer over flattened tokens, in plain torch, of whatever blocks its shape names.

One forward serves prefill chunks, single tokens and drafts of many rows at once; rows never see each other. It computes
what Hugging Face's modules compute (checked against them layer by layer in the tests) and has a KV cache, whose entries
are overwritten on rollback. Knows weights and positions. Knows nothing of sampling, grammars or requests.

Axis letters: T tokens of a step, H hidden size, N query heads, K key/value heads, D head size, S positions, V logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch program gives it
from torch import Tensor

from engine.model.architecture.shape import Attention, Shape
from engine.model.cpu.cpu_cache import CpuCache, Span
from engine.model.cpu.layers import AttentionWeights, LayerReader, mix_channels


class Decoder:
    """Weights and KV cache of one model: places for `slots` rows of `positions`. Not thread-safe."""

    def __init__(
        self, shape: Shape, weights: Mapping[str, Tensor], *, slots: int, positions: int, dtype: torch.dtype
    ) -> None:
        self.shape = shape
        self.embedding = weights["model.embed_tokens.weight"].to(dtype)
        head = weights.get("lm_head.weight")
        self.head = self.embedding if head is None or shape.tied else head.to(dtype)
        self.norm = weights["model.norm.weight"].to(dtype)
        self.layers = [LayerReader(weights, i, dtype).layer(block) for i, block in enumerate(shape.blocks)]
        self.vocab_size = self.head.shape[0]
        self._cache = CpuCache(
            shape.layers, shape.kv_heads, shape.head_dim, slots=slots, positions=positions, dtype=dtype
        )
        self.position_bytes = self._cache.position_bytes
        self._cos, self._sin = _rope_table(shape, positions, dtype)

    def forward(self, tokens: Tensor, spans: Sequence[Span], wanted: Tensor) -> Tensor:
        """fp32 logits [R, V] of the flattened token indices `wanted` [R] after feeding `tokens` [T]."""
        positions = torch.cat([torch.arange(s.position, s.position + s.stop - s.start) for s in spans])
        cos, sin = self._cos[positions].unsqueeze(1), self._sin[positions].unsqueeze(1)  # [T, 1, D]
        hidden = F.embedding(tokens, self.embedding)
        for index, (block, layer) in enumerate(zip(self.shape.blocks, self.layers, strict=True)):
            normed = F.rms_norm(hidden, hidden.shape[-1:], layer.input_norm, self.shape.eps)
            hidden = hidden + self._attention(index, block.mixer, layer.mixer, normed, cos, sin, spans)
            normed = F.rms_norm(hidden, hidden.shape[-1:], layer.post_norm, self.shape.eps)
            hidden = hidden + mix_channels(block.channels, layer.channels, normed)
        final = F.rms_norm(hidden[wanted], hidden.shape[-1:], self.norm, self.shape.eps)
        return F.linear(final, self.head).float()

    def copy(self, source: int, target: int, count: int) -> None:
        """Copy the entries of `count` places, from `source` on, to those from `target` on."""
        self._cache.copy(source, target, count)

    def save(self, slot: int, length: int) -> None:
        """Nothing: places are shared by whoever names them."""

    def load(self, slot: int, saved: Any, length: int) -> None:
        """Nothing."""

    def _attention(
        self, index: int, kind: Attention, weights: AttentionWeights, normed: Tensor, cos: Tensor, sin: Tensor,
        spans: Sequence[Span],
    ) -> Tensor:  # fmt: skip
        heads = F.linear(normed, weights.qkv, weights.qkv_bias).view(-1, kind.heads + 2 * kind.kv_heads, kind.head_dim)
        q, k, v = heads.split((kind.heads, kind.kv_heads, kind.kv_heads), dim=1)  # [T, heads, D]
        if weights.q_norm is not None and weights.k_norm is not None:
            q = F.rms_norm(q, q.shape[-1:], weights.q_norm, self.shape.eps)
            k = F.rms_norm(k, k.shape[-1:], weights.k_norm, self.shape.eps)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        mixed = torch.empty_like(q)
        for span in spans:
            rows = slice(span.start, span.stop)
            mixed[rows] = self._cache.attend(index, span, q[rows], k[rows], v[rows])
        return F.linear(mixed.flatten(1), weights.output)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding (arXiv 2104.09864) in the half-split form of Llama."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


def _rope_table(shape: Shape, positions: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    angles = shape.rope_angles(positions)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)
