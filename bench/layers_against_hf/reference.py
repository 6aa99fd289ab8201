"""Hugging Face's layers in fp32 and bf16 over the same tokens, one layer's weights in memory at a time.

Makes the weights of `random:CONFIG.json` again, name by name. Knows nothing of the fast path.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from engine.model.cpu.engine_weights import RANDOM_SEED
from engine.model.hf.quantized_model import empty_model
from engine.model.hf.random_weights import _matrices, _plain, _seed_of
from engine.model.weights.inventory import PLAIN, wanted_format
from engine.model.weights.rounding import quantize_slices


class Reference:
    """Steps through the layers once."""

    def __init__(self, settings: Any, quantization: str, device: str, tokens: list[int]) -> None:
        settings._attn_implementation = settings._experts_implementation = "eager"
        self._quantization, self._device = quantization, device
        self._model = empty_model(settings)
        inner = self._model.model
        self._rotary = type(inner.rotary_emb)(settings).to(device)
        self._shapes = {name: tuple(value.shape) for name, value in self._model.named_parameters()}
        embedded = self._made("model.embed_tokens.weight")[torch.tensor(tokens, device=device)]
        self._streams = [embedded.float()[None], embedded.bfloat16()[None]]
        self._blocks: list[Any] = []
        for dtype in (torch.float32, torch.bfloat16):
            with torch.device("cpu" if device == "cpu" else "meta"):
                block = type(inner.layers[0])(settings, 0).to(dtype)
            block = block if device == "cpu" else block.to_empty(device=device)
            self._blocks.append(block.eval().requires_grad_(False))

    def layers(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Residual streams [T, H] in fp32 and bf16 after every layer."""
        count = self._streams[0].shape[1]
        positions = torch.arange(count, device=self._device)[None]
        mask = torch.full((count, count), float("-inf"), device=self._device).triu(1)[None, None]
        for index in range(len(self._model.model.layers)):
            for name in [name for name in self._shapes if name.startswith(f"model.layers.{index}.")]:
                weight = self._made(name)
                for block in self._blocks:
                    block.get_parameter(name.split(".", 3)[3]).copy_(weight)
            for at, (block, hidden) in enumerate(zip(self._blocks, self._streams, strict=True)):
                turned = self._rotary(hidden, positions)
                out = block(hidden, attention_mask=mask.to(hidden.dtype), position_embeddings=turned)
                self._streams[at] = out[0] if isinstance(out, tuple) else out
            yield self._streams[0][0], self._streams[1][0]

    def logits(self) -> tuple[Tensor, Tensor]:
        """fp32 [T, V] of both after the last layer."""
        norm = type(self._model.model.norm)(self._streams[0].shape[-1], eps=self._model.config.rms_norm_eps)
        norm, head = norm.to(self._device), self._made("lm_head.weight")
        exact, rounded = (norm.to(stream.dtype)(stream)[0] for stream in self._streams)
        return exact.float() @ head.float().t(), (rounded @ head.bfloat16().t()).float()

    def _made(self, name: str) -> Tensor:
        """A weight of `random:CONFIG.json`, dequantised."""
        shape, generator = self._shapes[name], torch.Generator(self._device).manual_seed(_seed_of(RANDOM_SEED, name))
        std = float(getattr(self._model.config, "initializer_range", 0.02) or 0.02)
        wanted = wanted_format(name, len(shape), self._quantization, PLAIN)
        if wanted == PLAIN:
            return _plain(name, shape, std, generator, torch.bfloat16, zero_centred=False)
        return quantize_slices(_matrices(shape, std, generator), shape, wanted).dequantize(torch.float32)
