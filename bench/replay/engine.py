"""The engine over a model that replays documents, so that every run goes through the same tokens.

Knows the engine's calls. Several such engines share one model; whoever loaded it closes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import torch

from bench.replay.runner import Recording, ReplayRunner
from engine.config import EngineConfig
from engine.decode.engine import Engine
from engine.errors import EngineError
from engine.grammar import Matcher
from engine.interfaces import Tokenizer
from engine.model.loaded_model import LoadedModel
from engine.request import Constraint, Request, Result

Tokens = tuple[int, ...]


class ReplayedEngine(Engine):
    """An engine of its own over the model; `replay` says what comes next."""

    def __init__(self, config: EngineConfig, model: LoadedModel) -> None:
        self.replaying = ReplayRunner(model.runner)
        self.accepted = 0
        """Tokens of all results that were drafted and kept."""
        super().__init__(config, loaded=dataclasses.replace(model, runner=self.replaying))

    def submit(self, request: Request, **options: Any) -> Future[Result]:
        """See Engine."""
        future = super().submit(request, **options)
        future.add_done_callback(self._count)
        return future

    def _count(self, future: Future[Result]) -> None:
        if not future.cancelled() and future.exception() is None:
            self.accepted += future.result().usage.forced_tokens

    def replay(self, documents: Mapping[str, Tokens]) -> None:
        """From now on whoever sends one of these raw prompts gets its document."""
        encode = self.tokenizer.encode
        self.replaying.recording = Recording({tuple(encode(prompt)): tokens for prompt, tokens in documents.items()})


def with_stop(tokenizer: Tokenizer, text: str) -> Tokens:
    """A document's tokens and the stop token."""
    return (*tokenizer.encode(text), tokenizer.stop_token_ids[0])


def accepts(engine: Engine, constraint: Constraint, tokens: Sequence[int]) -> bool:
    """Whether the grammar takes these tokens; False where it refuses the constraint."""
    try:
        matcher = engine.grammars.submit(constraint).result().matcher()
        return all(matcher.accept(token) for token in tokens)
    except EngineError:
        return False


def legal_masks(engine: Engine, constraint: Constraint, tokens: Sequence[int]) -> torch.Tensor:
    """int32 [T, W]: what is legal at every token. RuntimeError where one of them is not."""
    matcher = Matcher(engine.grammars.submit(constraint).result())
    masks = torch.empty(len(tokens), (matcher.grammar.vocabulary.size + 31) // 32, dtype=torch.int32)
    for place, token in enumerate(tokens):
        matcher.fill(masks, place)
        if not matcher.accept(token):
            raise RuntimeError(f"token {place} of a document that replays is not legal")
    return masks


def unpack(words: torch.Tensor, size: int) -> Any:
    """int32 bitmask words [T, W] -> bool [T, V]."""
    return ((words[..., None] >> torch.arange(32, dtype=torch.int32)) & 1).bool().flatten(-2)[..., :size]
