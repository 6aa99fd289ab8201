"""Forced runs as drafts: text that the grammar leaves no choice about, in its canonical tokens.

A draft is only a proposal. The loop verifies every token against the masked sampler, so the output is what step-by-step
decoding would have given; a wrong guess costs a few rows of one forward. The last token of a run may merge with what
follows; it is drafted too, since verification makes that safe.
"""

from __future__ import annotations

from functools import lru_cache

from engine.decode.requests.job import Sample
from engine.interfaces import Tokenizer

LONGEST = 16
"""Most drafted tokens of one row in one step."""


class Drafts:
    """Per engine. `longest` 0 switches drafting off."""

    def __init__(self, tokenizer: Tokenizer, *, longest: int = LONGEST) -> None:
        self.longest = longest
        self._tokens = lru_cache(maxsize=4096)(lambda data: tuple(tokenizer.encode(data.decode("utf-8"))))

    def propose(self, sample: Sample) -> list[int]:
        """Tokens that probably follow; none for free text, for penalised rows, whose penalty drafts would shift, and
        for texts that may be taken back at every token."""
        matcher = sample.matcher
        room = min(self.longest, sample.remaining - 1)
        penalised = sample.job.request.sampling.repetition_penalty != 1.0
        if matcher is None or room <= 0 or penalised or sample.conditional is not None:
            return []
        data = matcher.forced()
        return list(self._tokens(data)[:room]) if data else []
