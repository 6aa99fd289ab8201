"""The baseline loop: Hugging Face's forward and XGrammar's own LogitsProcessor, the way its documentation shows.

The processor runs after each forward, so all of its time is exposed. Rows replay one document: after the processor
the logits of its next token are raised, and greedy decoding takes it. Knows transformers and xgrammar.contrib.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
import xgrammar
from xgrammar.contrib.hf import LogitsProcessor


@dataclass(slots=True)
class LoopTimes:
    """Microseconds per step: `mask` inside the processor (0 without one), and milliseconds from step to step."""

    mask_us: list[float] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)


class HfLoop:
    """One model with one compiler. `compile_ms` of the last grammar stands beside it."""

    def __init__(self, model: Any, vocabulary: list[bytes | None], stop_ids: tuple[int, ...]) -> None:
        self._model = model.eval()
        self._width = int(model.get_output_embeddings().weight.shape[0])
        entries = [token or b"" for token in vocabulary][: self._width]
        info = xgrammar.TokenizerInfo(
            entries, xgrammar.VocabType.RAW, vocab_size=self._width, stop_token_ids=list(stop_ids)
        )
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1)

    def run(self, prompt: list[int], document: list[int], batch: int, schema: Any | None) -> LoopTimes:
        """Decode the whole document in `batch` rows, with the schema's mask or without one."""
        grammar = None
        if schema is not None:
            text = json.dumps(schema, ensure_ascii=False)
            grammar = self._compiler.compile_json_schema(text, any_whitespace=False, separators=(",", ":"))
        processor = None if grammar is None else LogitsProcessor(grammar)
        times, cache = LoopTimes(), None
        ids = torch.tensor([prompt] * batch, device=self._model.device)
        fed = ids
        with torch.inference_mode():
            for token in document:
                start = perf_counter()
                out = self._model(input_ids=fed, past_key_values=cache, use_cache=True)
                cache, logits = out.past_key_values, out.logits[:, -1].float()
                if processor is not None:
                    self._settle()
                    asked = perf_counter()
                    logits = processor(ids, logits)
                    self._settle()
                    times.mask_us.append((perf_counter() - asked) * 1e6)
                logits[:, token] += 1e6
                fed = logits.argmax(-1, keepdim=True)
                ids = torch.cat([ids, fed], dim=1)
                if not bool((fed == token).all()):
                    raise ValueError(f"the mask forbids token {token} of the document; the peer cannot replay it")
                times.step_ms.append((perf_counter() - start) * 1e3)
        del times.step_ms[:1], times.mask_us[:1]
        return times

    def _settle(self) -> None:
        if self._model.device.type == "cuda":
            torch.cuda.synchronize()
