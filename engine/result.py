"""What became of a request, in plain types. Knows field names; decides no status."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Status = Literal["complete", "closed", "length", "invalid", "dead_end", "timeout", "cancelled", "error"]
FinishReason = Literal["stop", "length", "tool_calls", "error", "cancelled"]
CONDITIONAL_FIELDS = ("log_mass", "log_evidence", "log_weight", "effective_samples", "resamplings", "warnings")
"""Those that `to_dict` leaves out where there is nothing to say."""
SUCCESSES: frozenset[str] = frozenset({"complete", "closed", "length"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Token counts; `forced_tokens` are part of `completion_tokens`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    forced_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Usage)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """Wall milliseconds of one request by phase; `mask_exposed` is the part of the mask that lengthened steps."""

    queue: float = 0.0
    compile: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    mask_fill: float = 0.0
    mask_exposed: float = 0.0
    detokenize: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What became of a request. Valid whenever `status` is `complete` or `closed`."""

    id: str
    status: Status
    finish_reason: FinishReason
    valid: bool = False
    text: str = ""
    value: Any = None
    arguments: Mapping[int, tuple[int, Mapping[str, Any]]] = field(default_factory=dict)
    """Where the parameters of a call begin in `text`: where they end, and the object they mean. Not in `to_dict`."""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[dict[str, Any], ...] | None = None
    """Per token: `{token_id, token, raw, constrained, top: [{token_id, token, raw, constrained}]}`."""
    mean_logprob: float | None = None
    """Mean constrained log-probability of the completion's tokens."""
    log_mass: float | None = None
    """Where `logprobs` were asked for: the sum of log Z_t, the legal tokens' share of the model at `temperature` (at 1
    where greedy). The importance weight of a document that `mask` drew; None where part of it was not drawn so."""
    log_evidence: float | None = None
    """An estimate of the log probability that the model writes a valid text unsteered. With `smc` its exponential is
    unbiased. This and what follows: with `smc` and `rejection` alone."""
    log_weight: float | None = None
    """By which the text was drawn: the exponentials' mean over all particles is that of `log_evidence`."""
    effective_samples: float | None = None
    """Of the particles the texts were drawn from: how many equally weighted ones they are worth."""
    resamplings: int | None = None
    warnings: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    timings_ms: Timings = field(default_factory=Timings)
    schema_hash: str | None = None
    grammar_source: Literal["memory", "disk", "compiled"] | None = None
    verdicts: Mapping[str, int] | None = None
    seed: int | None = None
    samples: tuple[Result, ...] = ()
    prompt_sha256: str | None = None
    model: str = ""
    quantization: str = ""
    engine_version: str = ""
    gpu_seconds: float = 0.0
    device: str = ""
    created: float = 0.0
    error: Mapping[str, Any] | None = None

    @property
    def ok(self) -> bool:
        return self.status in SUCCESSES

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types. `error` is absent on success, `samples` when n was 1; non-finite logprobs become null.

        `CONDITIONAL_FIELDS` are there where they apply."""
        plain: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["usage"] = asdict(self.usage)
        plain["timings_ms"] = {name: round(ms, 3) for name, ms in asdict(self.timings_ms).items()}
        plain["token_ids"] = list(self.token_ids)
        plain["logprobs"] = None if self.logprobs is None else [_finite(entry) for entry in self.logprobs]
        plain["verdicts"] = None if self.verdicts is None else dict(self.verdicts)
        plain["mean_logprob"] = _finite(self.mean_logprob)
        plain["samples"] = [sample.to_dict() for sample in self.samples]
        plain["warnings"] = list(self.warnings)
        for name in CONDITIONAL_FIELDS:
            plain[name] = _finite(plain[name])
            if plain[name] in (None, []) and not (name == "warnings" and self.resamplings is not None):
                del plain[name]
        del plain["arguments"]
        if not self.samples:
            del plain["samples"]
        if self.error is None:
            del plain["error"]
        else:
            plain["error"] = dict(self.error)
        return plain

    def to_json(self) -> str:
        """`to_dict` as compact JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
