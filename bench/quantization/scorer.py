"""Logits of given documents after given prompts, from Hugging Face's forward, with weights that can be exchanged.

The same code for every variant, in the same precision, so that what differs is the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from bench.peers.hf_model import hf_model
from bench.quantization.variants import is_changed


class Scorer:
    """One model in memory; `put` exchanges a weight for a variant's. Holds the weights it came with on the CPU."""

    def __init__(self, name: str, revision: str | None, device: str) -> None:
        self._model = hf_model(name, revision, device).eval().requires_grad_(False)
        self._own = {
            key: parameter.detach().to("cpu", copy=True)
            for key, parameter in self._model.named_parameters()
            if is_changed(key, parameter.ndim)
        }
        config = self._model.config
        self.tied = bool(getattr(config, "tie_word_embeddings", False))
        experts = int(getattr(config, "num_experts", 0) or 0)
        self.expert_share = int(getattr(config, "num_experts_per_tok", 0) or 0) / experts if experts else 1.0

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """The reference's weights by name, one at a time on the model's device."""
        for key, parameter in self._model.named_parameters():
            yield key, self._own[key].to(parameter.device) if key in self._own else parameter.detach()

    def put(self, name: str, weight: Tensor) -> None:
        """Compute with this weight from now on, rounded to the model's dtype (fp32 on a CPU: not at all)."""
        self._model.get_parameter(name).copy_(weight)

    def logits(self, prompt: Sequence[int], documents: Sequence[Sequence[int]]) -> list[Tensor]:
        """Per document fp32 [T, V] on the CPU: the distributions that its T tokens were drawn from. One forward for
        the prompt, one more a document."""
        cache: Any = DynamicCache(config=self._model.config)
        first = self._forward(prompt, cache, keep=1)
        rows = []
        for document in documents:
            cache.crop(len(prompt) - cache.get_seq_length())  # at most 0: how many entries to drop
            rest = self._forward(document[:-1], cache, keep=len(document) - 1) if len(document) > 1 else first[:0]
            rows.append(torch.cat([first, rest]))
        return rows

    @torch.no_grad()
    def _forward(self, tokens: Sequence[int], cache: Any, keep: int) -> Tensor:
        ids = torch.tensor([list(tokens)], device=self._model.device)
        out = self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=keep)
        return out.logits[0].float().cpu()  # type: ignore[no-any-return]  # transformers is untyped here
