"""Forced runs as drafts: text that the grammar leaves no choice about, in its canonical tokens.

A draft is only a proposal. The loop verifies every token against the masked sampler, so the output is what step-by-step
decoding would have given; a wrong guess costs a few rows of one forward, and the step launched behind it. So the last
token of a run is drafted only where the run opens a string: elsewhere it mostly merges with what follows (`":[` with
`]`, `":` with `"`), whereas tokenizers keep words apart from the punctuation before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from engine.decode.requests.job import Sample
from engine.interfaces import Tokenizer

LONGEST = 16
"""Most drafted tokens of one row in one step."""
_OPENS_STRING = tuple(mark + b'"' for mark in (b":", b"[", b"{", b","))


class Drafts:
    """Per engine. `longest` 0 switches drafting off."""

    def __init__(self, tokenizer: Tokenizer, *, longest: int = LONGEST) -> None:
        self.longest = longest
        self._token_bytes = tokenizer.token_bytes
        self._tokens = lru_cache(maxsize=4096)(lambda data: _settled(tokenizer, data))

    def propose(self, sample: Sample) -> list[int]:
        """Tokens that probably follow; none for free text, for penalised rows, whose penalty drafts would shift, and
        for texts that may be taken back at every token."""
        matcher = sample.matcher
        room = min(self.longest, sample.remaining - 1)
        penalised = sample.job.request.sampling.repetition_penalty != 1.0
        if matcher is None or room <= 0 or penalised or sample.conditional is not None:
            return []
        return list(self._tokens(matcher.forced())[:room])

    def holds(self, sample: Sample, draft: Sequence[int]) -> bool:
        """Whether it is still what must follow."""
        matcher, text = sample.matcher, b"".join(self._token_bytes(token) or b"" for token in draft)
        return matcher is not None and matcher.forced().startswith(text)


def _settled(tokenizer: Tokenizer, data: bytes) -> tuple[int, ...]:
    """The run's tokens without the last one, if that may merge with what follows."""
    tokens = tokenizer.encode(data.decode("utf-8"))
    return tuple(tokens if data.endswith(_OPENS_STRING) else tokens[:-1])
