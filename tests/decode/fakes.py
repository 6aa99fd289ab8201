"""A byte tokenizer and a network whose logits are a function of the tokens: the real engine runs on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from engine.config import EngineConfig
from engine.decode.engine import Engine
from engine.model.cpu.cpu_runner import CpuRunner
from engine.model.cpu.kv_blocks import BlockTables
from engine.model.loaded_model import LoadedModel

MERGES = [
    b'{"',
    b'":',
    b'",',
    b'","',
    b'"}',
    b"true",
    b"false",
    b"null",
    b"th",
    b"the",
    b"in",
    b"  ",
    b'":"',
    b"\xc3\xa9",
]
EOS, SPECIAL = 256 + len(MERGES), 257 + len(MERGES)
TOKENS: list[bytes | None] = [bytes([i]) for i in range(256)] + list(MERGES) + [None, None]
V = len(TOKENS) + 5
"""Padded: the last five ids are no token at all."""


class ByteTokenizer:
    """Longest match over bytes and merges; one special token that text can never become."""

    vocab_size = len(TOKENS)
    stop_token_ids = (EOS,)
    fingerprint = hashlib.sha256(repr(TOKENS).encode()).hexdigest()
    has_chat_template = True

    def encode(self, text: str) -> list[int]:
        data, ids = text.encode(), []
        while data:
            best = max((t for t in MERGES if data.startswith(t)), key=len, default=data[:1])
            ids.append(TOKENS.index(best))
            data = data[len(best) :]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.token_bytes(i) or b"" for i in ids).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes | None:
        return TOKENS[token_id] if 0 <= token_id < len(TOKENS) else None

    def chat(self, messages: Sequence[dict[str, Any]], *, tools: Any = None) -> list[int]:
        text = "".join(f"[{message['role']}]{message['content']}" for message in messages)
        return self.encode(text + "[assistant]")


Logits = Callable[[Sequence[int]], np.ndarray]


class FakeNetwork:
    """Keeps in each place of the cache what was fed there, so that wrong tables and positions show, and asks
    `logits_of` about what a row's places hold."""

    vocab_size = V
    position_bytes = 1

    def __init__(self, logits_of: Logits) -> None:
        self.places: list[int | None] = []
        self.logits_of = logits_of
        self.forwards = 0
        self.tokens = 0
        self.copied = 0
        """Places."""
        self.most = 0
        """Rows of the largest step."""
        self.before: Callable[[], None] = lambda: None
        """Called before each step."""

    def forward(self, tokens: torch.Tensor, spans: Sequence[Any], wanted: torch.Tensor) -> torch.Tensor:
        self.before()
        self.forwards += 1
        self.most = max(self.most, len(spans))
        self.tokens += len(tokens)
        rows: dict[int, np.ndarray] = {}
        asked = set(wanted.tolist())
        for span in spans:
            where = [place for first, length in span.runs for place in range(first, first + length)]
            self.grow(max(where) + 1)
            fed = [self.places[place] for place in where[: span.position]]
            assert None not in fed, "a gap in the cache"
            for index, place in zip(range(span.start, span.stop), where[span.position :], strict=True):
                self.places[place] = int(tokens[index])
                fed.append(self.places[place])
                if index in asked:
                    rows[index] = self.logits_of(fed)
        stacked = [rows[index] for index in wanted.tolist()]
        return torch.tensor(np.stack(stacked), dtype=torch.float32) if stacked else torch.zeros(0, V)

    def grow(self, count: int) -> None:
        self.places += [None] * (count - len(self.places))

    def copy(self, source: int, target: int, count: int) -> None:
        self.copied += count
        self.grow(max(source, target) + count)
        self.places[target : target + count] = self.places[source : source + count]

    def save(self, slot: int, length: int) -> None:
        return

    def load(self, slot: int, saved: Any, length: int) -> None:
        raise AssertionError("nothing lies by slots")


def random_logits(seed: int, scale: float = 5.0) -> Logits:
    """Logits that are noise, but a function of everything fed so far: what an adversary with no manners would want."""

    def logits_of(fed: Sequence[int]) -> np.ndarray:
        digest = hashlib.blake2b(repr((seed, len(fed), tuple(fed[-8:]))).encode(), digest_size=8).digest()
        return np.random.default_rng(int.from_bytes(digest, "little")).normal(0, scale, V).astype(np.float32)

    return logits_of


def wants(text: str, *, then: int = EOS) -> Logits:
    """Logits that spell `text` in the completion (after '[assistant]'), byte by byte, then prefer `then`."""
    script = text.encode()

    def logits_of(fed: Sequence[int]) -> np.ndarray:
        data = b"".join(TOKENS[i] or b"" for i in fed)
        done = len(data) - (data.rfind(b"[assistant]") + len(b"[assistant]"))
        row = np.full(V, -5.0, dtype=np.float32)
        row[script[done] if done < len(script) else then] = 10.0
        return row

    return logits_of


LAUNCH_AHEAD: bool | None = None
"""Setting of the engines made here; tests run with both."""


def fake_engine(
    logits_of: Logits, tmp_path: Any, *, blocks: BlockTables | None = None, **settings: Any
) -> tuple[Engine, FakeNetwork]:
    """A real engine (grammar service, scheduler, loop, sampler) on a fake network."""
    common = {"max_batch": 4, "max_sequence": 2048, "cache_dir": tmp_path, "launch_ahead": LAUNCH_AHEAD}
    config = EngineConfig(**{**common, **settings})
    network = FakeNetwork(logits_of)
    sizes = {"max_batch": config.max_batch, "max_sequence": config.max_sequence}
    runner = CpuRunner(network, **sizes, quantization="fp32", blocks=blocks)
    return Engine(config, loaded=LoadedModel("fake", None, runner, ByteTokenizer())), network  # type: ignore[arg-type]


STEP_S = 0.01


@contextmanager
def clock_of_steps(network: FakeNetwork, *, most_s: float = float("inf")) -> Iterator[Callable[[], float]]:
    """Deadlines pass by a clock that each forward moves by `STEP_S`, up to `most_s`: the same on every machine.

    It stands still while nothing is computed, so that whoever waits for another process loses no time by that.
    """

    def now() -> float:
        return min(network.forwards * STEP_S, most_s)

    with patch("engine.decode.requests.job.now", now):
        yield now
