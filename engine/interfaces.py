"""Protocols that cross between the folders `grammar`, `model`, `decode` and `trace`, which do not see one another.

Axis letters: R rows of a step, T flattened tokens of a step, V padded vocabulary (logits width), W = ceil(V / 32)
bitmask words. Tensors and arrays are typed `Any` here so that importing the types needs neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Tokenizer(Protocol):
    """Text to ids and back; the only view of a tokenizer that the rest of the engine has."""

    vocab_size: int
    """Number of ids the tokenizer knows (at most V)."""
    stop_token_ids: tuple[int, ...]
    """Ids that end a document (eos first)."""
    has_chat_template: bool

    @property
    def fingerprint(self) -> str:
        """sha256 over vocabulary bytes, special ids and stop ids: part of every grammar cache key."""

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: nothing added, and text that looks like a special token is not one."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out, invalid UTF-8 replaced."""

    def token_bytes(self, token_id: int) -> bytes | None:
        """The bytes a token writes; None for special, added and padding ids, which write no text."""

    def chat(self, messages: Sequence[dict[str, Any]], *, tools: Sequence[dict[str, Any]] | None = None) -> list[int]:
        """Ids of the conversation through the model's chat template, with the generation prompt."""


STEP_ROWS = 64
"""Logits rows that every runner can take in one step; more with a large batch, see `step_rows`."""


def step_rows(max_batch: int) -> int:
    """Logits rows of a step that a runner of `max_batch` takes: drafts are cut to fit. Two a row up to 256, so that a
    large batch has room to draft."""
    return max(STEP_ROWS, max_batch, min(256, 2 * max_batch))


FROM_DEVICE = -1
"""First in `RowInput.tokens`: the id this slot sampled last, which may not have reached the host yet."""


@dataclass(frozen=True, slots=True)
class RowInput:
    """One row of a step: tokens to feed to `slot`, the first at `position` (0-based, tokens already in its cache).

    Cache entries at and after `position` are overwritten, which is how rollback works, and blocks of the cache behind
    the fed tokens are free again. `logits` is how many of the last fed tokens need logits (0 for a prefill chunk that
    is not the last, k + 1 for a draft of k).
    """

    slot: int
    tokens: Sequence[int]
    position: int
    logits: int = 1


@dataclass(slots=True)
class SampleInputs:
    """Host-side sampler inputs, one entry per logits row R' of the step (rows in order, several per draft).

    `temperature` 0 is greedy (ties to the lowest id). `uniform` is the one random number of this row in [0, 1), a
    function of (seed, sample, position) alone. `bitmask` is int32 [R', W] or None when every row is free text;
    `penalty_rows` names the slot whose seen-token set applies. `want_logprobs` asks for raw and constrained logprobs.
    """

    temperature: list[float]
    top_p: list[float]
    top_k: list[int]
    min_p: list[float]
    repetition_penalty: list[float]
    uniform: list[float]
    slots: list[int]
    bitmask: Any | None = None
    want_logprobs: int = 0
    """0: no logprobs; k + 1: raw and constrained logprob of the sampled id and of k alternatives."""
    want_stats: bool = False
    want_mass: bool = False
    """Asks for `log_mass` and `log_drawn`."""
    bias: Mapping[int, Mapping[int, float]] | None = None
    """By logits row: what is added to the log-probabilities of a few ids before one is drawn, minus infinity too."""
    sources: Mapping[int, int] | None = None
    """By logits row: the other row whose logits are its own too. No source has one itself."""


@dataclass(slots=True)
class Sampled:
    """What one step sampled, on the host. Lists have one entry per logits row R'.

    `logprob_raw`/`logprob` are log-probabilities of the sampled id before and after the mask (temperature applied in
    neither). `top` holds, per row, (id, raw, constrained) triples when top logprobs were asked. `mass` is Z, the free
    model's probability of the legal set, with entropies in nats.
    """

    token_ids: list[int]
    logprob_raw: list[float] | None = None
    logprob: list[float] | None = None
    top: list[list[tuple[int, float, float]]] | None = None
    mass: list[float] | None = None
    entropy_free: list[float] | None = None
    entropy: list[float] | None = None
    argmax_free: list[int] | None = None
    argmax_legal: list[bool] | None = None
    """Whether the free argmax is in the legal set."""
    log_mass: list[float] | None = None
    """log Z and, in `log_drawn`, the free model's log-probability of the sampled id, both at the row's temperature (1
    where greedy) and without its bias."""
    log_drawn: list[float] | None = None


class SavedPrefix(Protocol):
    """Cache entries that are kept until they are dropped."""

    @property
    def nbytes(self) -> int:
        """Bytes of their blocks, whoever else has them."""

    def again(self) -> SavedPrefix:
        """The same entries for one more holder."""

    def drop(self) -> None:
        """Let them go. Idempotent."""


class CacheBlocks(Protocol):
    """Which blocks of `size` positions of the KV cache each slot has. The runner's thread asks, and nothing waits."""

    size: int
    most: int
    """Blocks that a slot can have: those of a row of full length. There are as many at least in all."""

    @property
    def free(self) -> int:
        """Blocks that no slot and no prefix has."""

    def table(self, slot: int) -> Sequence[int]:
        """The slot's blocks."""

    def reserve(self, slot: int, position: int, end: int) -> bool:
        """Give the slot what feeding positions from `position` up to `end` takes, and take back what lies behind.

        False, and nothing is changed, where too few blocks are free: `forward`, which does it too, would fail.
        """

    def clear(self, slot: int) -> None:
        """Take back all that the slot has."""


class Runner(Protocol):
    """The model behind a fixed number of slots, whose KV cache lies in blocks. One thread uses a runner; calls are
    asynchronous where noted.

    A step is `forward(rows)`, then `sample(inputs)`, then `wait()`. `forward` returns before the device has finished,
    so that the caller can fill bitmasks; `sample` enqueues mask, penalties and sampling behind it; `wait` is the one
    synchronisation. The ids sampled for a slot's last logits row stay on the device for `FROM_DEVICE`.
    """

    vocab_size: int
    """V, the width of the logits."""
    max_batch: int
    max_sequence: int
    device: str
    """For people: 'cpu', 'NVIDIA H100 80GB HBM3', ..."""
    quantization: str

    @property
    def blocks(self) -> CacheBlocks:
        """Of the KV cache."""

    def forward(self, rows: Sequence[RowInput]) -> None:
        """Enqueue one forward over all rows (flattened tokens). Logits wait in the runner's buffer."""

    def sample(self, inputs: SampleInputs) -> None:
        """Enqueue repetition penalty, mask, temperature, top-k, top-p, min-p and sampling of the last forward."""

    def wait(self) -> Sampled:
        """Block until the ids of the last `sample` are on the host."""

    def finished(self) -> bool:
        """Whether `wait` would return at once. Some microseconds."""

    def reset_slot(self, slot: int, seen: Sequence[int] = ()) -> None:
        """Forget the slot's seen-token set and replace it by `seen` (for the repetition penalty)."""

    def mark_seen(self, slot: int, tokens: Sequence[int]) -> None:
        """Add accepted tokens to the slot's seen-token set before the next `sample`; for penalised rows only."""

    def save_prefix(self, slot: int, length: int) -> SavedPrefix:
        """Keep the first `length` cache entries of a slot, by reference but for one block."""

    def load_prefix(self, slot: int, prefix: Any, length: int) -> None:
        """Begin a slot with the first `length` entries of a saved prefix, by reference: whoever writes to a block that
        others have too copies it before."""

    def timings(self) -> dict[str, float]:
        """Microseconds of the last finished step: `forward`, `copy`, `apply`, `sample`, `mask_wait` (exposed)."""

    def close(self) -> None:
        """Free device memory and threads."""


@dataclass(slots=True)
class StepRecord:
    """What the loop writes about one row of one step and `trace/` reads. Times in microseconds, from one clock.

    `hidden_us + exposed_us = fill_us + copy_us + apply_us`.
    """

    step: int
    request_id: str
    row: int
    position: int
    token_id: int
    text: str
    forced: bool
    rows: int
    fill_us: float
    accept_us: float
    copy_us: float
    apply_us: float
    forward_us: float
    sample_us: float
    hidden_us: float
    exposed_us: float
    legal_tokens: int
    mass: float | None = None
    entropy_free: float | None = None
    entropy: float | None = None
    argmax_illegal: bool | None = None
    event: str | None = None
    """A status change at this step: closed, rollback, dead_end, cancelled, ..."""
