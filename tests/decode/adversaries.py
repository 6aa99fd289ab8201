"""Models that want no document at all: what each adds to noise, in place, given everything fed so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tests.decode.fakes import EOS, TOKENS, V

Adversary = Callable[[np.ndarray, Sequence[int]], None]
ADVERSARIES: dict[str, Adversary] = {}


def adversary(change: Adversary) -> Adversary:
    ADVERSARIES[change.__name__] = change
    return change


@adversary
def noise(_row: np.ndarray, _fed: Sequence[int]) -> None:
    """No wish at all."""


@adversary
def endless(row: np.ndarray, _fed: Sequence[int]) -> None:
    """Never wants to stop, loves letters and escapes: strings run on to the budget."""
    row[EOS] -= 100.0
    row[[ord("a"), ord("\\"), 0xC3, 0xE3]] += 30.0


@adversary
def hasty(row: np.ndarray, _fed: Sequence[int]) -> None:
    """Wants to stop at once."""
    row[EOS] += 100.0


@adversary
def opener(row: np.ndarray, _fed: Sequence[int]) -> None:
    """Opens whatever can be opened."""
    row[[ord(c) for c in '{["']] += 30.0
    row[[ord(c) for c in "}]"]] -= 30.0


@adversary
def parrot(row: np.ndarray, fed: Sequence[int]) -> None:
    """Says the last token again."""
    row[fed[-1]] += 50.0


@adversary
def echo(row: np.ndarray, fed: Sequence[int]) -> None:
    """Says what came after the last comma again: equal items, repeated keys."""
    since = next((at for at in range(len(fed) - 1, -1, -1) if fed[at] == ord(",")), None)
    begins = [at for at in range(len(fed)) if fed[at] in (ord("["), ord("{"), ord(","))][-2:-1]
    if since is not None and begins and begins[0] + (len(fed) - since) < len(fed):
        row[fed[begins[0] + (len(fed) - since)]] += 20.0


@adversary
def extreme(row: np.ndarray, _fed: Sequence[int]) -> None:
    """Logits as large as floats of half precision get, both ways."""
    row *= 12_000.0


def logits_of(fed: Sequence[int]) -> np.ndarray:
    """Noise of the run whose number stands in the prompt, bent by its adversary."""
    number = int(b"".join(TOKENS[i] or b"" for i in fed[:16]).decode().partition("]")[2][:6])
    row = np.random.default_rng([number, len(fed), hash(tuple(fed)) & 0xFFFFFFFF]).normal(0, 5, V).astype(np.float32)
    list(ADVERSARIES.values())[number % len(ADVERSARIES)](row, fed)
    return row
