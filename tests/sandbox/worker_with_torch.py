"""A module for the sandbox's tests that computes with torch while it is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

TWO = torch.ones(2).sum().item() * 1.0


def prepare(name: str, content: bytes) -> None:
    """Nothing to know."""


def open_session(name: str, setup: bytes) -> Callable[[bytes], Iterator[bytes]]:
    def answer(payload: bytes) -> Iterator[bytes]:
        yield str(TWO).encode()

    return answer
