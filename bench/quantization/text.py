"""A plain text as what variants are scored on: windows of it, with no grammar. Knows tokens; runs no model."""

from __future__ import annotations

from pathlib import Path

import torch

from bench.quantization.documents import Replayed
from engine.interfaces import Tokenizer

WINDOW = 256
"""Tokens; a window is what intervals resample."""
MOST_WINDOWS = 64


def read_windows(path: Path, tokenizer: Tokenizer, limit: int | None) -> list[Replayed]:
    """Windows spread evenly over the text; of each the first token is the prompt. ValueError where there is none."""
    tokens = tokenizer.encode(path.read_text(encoding="utf-8"))
    count = len(tokens) // WINDOW
    if not count:
        raise ValueError(f"{path} has {len(tokens)} tokens, a window has {WINDOW}")
    wanted = min(count, limit or MOST_WINDOWS)
    masks = torch.full((WINDOW - 1, -(-tokenizer.vocab_size // 32)), -1, dtype=torch.int32)
    windows = (tokens[at * WINDOW : (at + 1) * WINDOW] for at in (index * count // wanted for index in range(wanted)))
    return [Replayed(window[:1], window[1:], window[1:], masks, masks) for window in windows]
