"""A runner whose step takes its time without the processor, as a device's does; it draws among the legal tokens.

Free text is made of whole ASCII words, so that every step is a piece of text. Under a mask the draw prefers what ends:
a random one of the legal tokens, the stop token where it is legal.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.interfaces import RowInput, Sampled, SampleInputs, Tokenizer
from engine.model.cpu.kv_blocks import BlockTables, Prefix


class SleepingRunner:
    """See `engine.interfaces.Runner`. `step_s` is how long a forward takes."""

    device = "cpu (sleeping)"
    quantization = "none"

    def __init__(self, tokenizer: Tokenizer, *, step_s: float, max_batch: int = 8, max_sequence: int = 2048) -> None:
        self.vocab_size = tokenizer.vocab_size
        self.max_batch, self.max_sequence, self.step_s = max_batch, max_sequence, step_s
        texts = [tokenizer.token_bytes(token) or b"" for token in range(tokenizer.vocab_size)]
        self._words = [token for token, text in enumerate(texts) if text.startswith(b" ") and text[1:].isalpha()]
        self._stop = tokenizer.stop_token_ids[0]
        self.blocks = BlockTables.for_rows(max_batch, max_sequence)
        self._until = 0.0
        self._drawn: list[int] = []

    def forward(self, rows: Sequence[RowInput]) -> None:  # noqa: ARG002 - the protocol's signature
        self._until = time.perf_counter() + self.step_s

    def sample(self, inputs: SampleInputs) -> None:
        masks = None if inputs.bitmask is None else np.asarray(inputs.bitmask)
        self._drawn = [
            self._draw(None if masks is None else masks[row], uniform) for row, uniform in enumerate(inputs.uniform)
        ]

    def _draw(self, mask: Any, uniform: float) -> int:
        """Some ten microseconds: a device's draw takes nothing from the host."""
        if mask is None:
            return self._words[int(uniform * len(self._words))]
        words = mask.view(np.uint32)
        ends = np.cumsum(np.bitwise_count(words))
        if words[self._stop >> 5] >> np.uint32(self._stop & 31) & 1:
            free = ends[-1] > self.vocab_size / 2  # free text forbids special tokens only
            return self._words[int(uniform * len(self._words))] if free else self._stop
        if not ends[-1]:
            return self._stop
        wanted = int(uniform * int(ends[-1]))
        word = int(np.searchsorted(ends, wanted, side="right"))
        inside = wanted - (int(ends[word - 1]) if word else 0)
        bits = np.unpackbits(words[word : word + 1].view(np.uint8), bitorder="little")
        return 32 * word + int(np.flatnonzero(bits)[inside])

    def wait(self) -> Sampled:
        time.sleep(max(0.0, self._until - time.perf_counter()))
        return Sampled(self._drawn)

    def finished(self) -> bool:
        return time.perf_counter() >= self._until

    def reset_slot(self, *_: Any) -> None:
        return

    def mark_seen(self, *_: Any) -> None:
        return

    def save_prefix(self, slot: int, length: int) -> Prefix:
        return self.blocks.share(slot, length)

    def load_prefix(self, slot: int, prefix: Prefix, length: int) -> None:
        self.blocks.adopt(slot, prefix, length)

    def timings(self) -> dict[str, float]:
        return {"forward": self.step_s * 1e6, "copy": 0.0, "apply": 0.0, "sample": 0.0, "mask_wait": 0.0}

    def close(self) -> None:
        return
