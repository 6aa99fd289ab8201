"""An engine of 32 tokens over small languages: the real loop, grammars, cache blocks and sampler, and no network.

The first token of a prompt says whose logits come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.sampling.languages import LETTERS, STOP, TOKENS, WIDTH, Language
from engine.config import EngineConfig
from engine.decode.engine import Engine
from engine.model.cpu.cpu_runner import CpuRunner
from engine.model.loaded_model import LoadedModel
from engine.request import Constraint, Request, Result, SamplingParams


class SmallTokenizer:
    """Letters and a few pairs; the longest first."""

    vocab_size = WIDTH
    stop_token_ids = (STOP,)
    fingerprint = hashlib.sha256(repr(TOKENS).encode()).hexdigest()
    has_chat_template = False

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        while text:
            best = max((token for token in TOKENS if text.startswith(token)), key=len)
            ids.append(TOKENS.index(best))
            text = text[len(best) :]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(TOKENS[token] for token in ids if token < STOP)

    def token_bytes(self, token_id: int) -> bytes | None:
        return TOKENS[token_id].encode() if 0 <= token_id < STOP else None

    def chat(self, messages: Sequence[dict[str, Any]], *, tools: Any = None) -> list[int]:
        raise NotImplementedError("prompts are raw")


class SmallNetwork:
    """Keeps in each place of the cache what was fed there, so that a wrong table shows."""

    vocab_size = WIDTH
    position_bytes = 1

    def __init__(self, languages: Sequence[Language], places: int) -> None:
        self._languages = languages
        self._places = np.full(places, -1)

    def forward(self, tokens: torch.Tensor, spans: Sequence[Any], wanted: torch.Tensor) -> torch.Tensor:
        rows: dict[int, np.ndarray] = {}
        asked, fed = set(wanted.tolist()), tokens.numpy()
        for span in spans:
            where = np.concatenate([np.arange(first, first + length) for first, length in span.runs])
            self._places[where[span.position :]] = fed[span.start : span.stop]
            row = self._places[where].tolist()
            for index in range(span.start, span.stop):
                if index in asked:
                    seen = row[: span.position + 1 + index - span.start]
                    rows[index] = self._languages[seen[0]].logits(tuple(seen[1:]))
        return (
            torch.from_numpy(np.stack([rows[index] for index in wanted.tolist()])) if asked else torch.zeros(0, WIDTH)
        )

    def copy(self, source: int, target: int, count: int) -> None:
        self._places[target : target + count] = self._places[source : source + count]

    def save(self, *_: int) -> None:
        return

    def load(self, slot: int, saved: Any, length: int) -> None:
        raise NotImplementedError("nothing lies by slots")


class SmallEngine(Engine):
    """An engine over these languages, at most 26."""

    def __init__(self, languages: Sequence[Language], folder: Path, *, rows: int = 128, ahead: bool = False) -> None:
        config = EngineConfig(max_batch=rows, max_sequence=32, cache_dir=folder, launch_ahead=ahead)
        runner = CpuRunner(SmallNetwork(languages, rows * 128), max_batch=rows, max_sequence=32, quantization="fp32")
        super().__init__(config, loaded=LoadedModel("small", None, runner, SmallTokenizer()))  # type: ignore[arg-type]  # a model without files

    def draw(self, language: int, constraint: Constraint, seeds: Sequence[int], params: SamplingParams) -> list[Result]:
        """A Result for each seed."""
        given = {
            name: getattr(params, name) for name in ("method", "particles", "ess", "temperature", "max_tokens", "n")
        }
        prompt = LETTERS[language]
        return self.generate_batch(
            [
                Request(
                    prompt=prompt, template="raw", constraint=constraint, sampling=SamplingParams(**given, seed=seed)
                )
                for seed in seeds
            ]
        )
