"""From ended samples to a Result. Knows statuses and fields; decides no status itself."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

from engine.decode.requests.job import Job, Sample, prompt_sha256
from engine.decode.requests.judge import Judged
from engine.errors import EngineError
from engine.judge import Judgement
from engine.request import FinishReason, Result, Status, Timings, Usage

FINISH: dict[Status, FinishReason] = {
    "complete": "stop",
    "closed": "length",
    "length": "length",
    "cancelled": "cancelled",
    "invalid": "error",
    "dead_end": "error",
    "timeout": "error",
    "error": "error",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """What every result says about the engine that made it."""

    model: str
    quantization: str
    engine_version: str
    device: str


def sample_result(sample: Sample, judged: Judged, text: str, detokenize_s: float, who: Identity) -> Result:
    """The Result of one sample whose status is set."""
    job, status, judgement = sample.job, sample.status or "error", judged.judgement
    constraint = job.request.constraint
    grammar = job.compiled() if job.grammar is not None and not _failed(job) else None
    return Result(
        id=job.request.id,
        status=status,
        finish_reason=FINISH[status],
        valid=status in ("complete", "closed") and judgement.valid,
        text=text,
        value=judged.value,
        arguments=dict(judgement.arguments),
        token_ids=tuple(sample.output),
        logprobs=tuple(sample.logprobs) if job.request.sampling.logprobs is not None else None,
        mean_logprob=_mean(sample),
        log_mass=_log_mass(sample, status),
        **({} if sample.conditional is None else asdict(sample.conditional.findings(sample))),
        usage=Usage(
            prompt_tokens=len(job.prompt) if sample.index == 0 else 0,
            completion_tokens=len(sample.output),
            forced_tokens=sample.forced,
        ),
        timings_ms=_timings(sample, grammar.compile_ms if grammar else 0.0, detokenize_s),
        schema_hash=constraint.schema_hash if constraint else None,
        grammar_source=grammar.source if grammar else None,
        verdicts=_counts(grammar.verdicts, len(job.checks)) if grammar else None,
        seed=sample.seed if sample.conditional is None else job.seed,
        prompt_sha256=prompt_sha256(job.prompt),
        model=who.model,
        quantization=who.quantization,
        engine_version=who.engine_version,
        gpu_seconds=0.0 if who.device == "cpu" else round(sample.device_s, 6),
        device=who.device,
        created=job.created,
        error=_error(sample, judgement),
    )


def job_result(results: list[Result]) -> Result:
    """Sample 0's fields, usage and device time summed, every sample listed when there are several."""
    if len(results) == 1:
        return results[0]
    usage = sum((result.usage for result in results), Usage())
    seconds = sum(result.gpu_seconds for result in results)
    return replace(results[0], usage=usage, gpu_seconds=seconds, samples=tuple(results))


def _log_mass(sample: Sample, status: Status) -> float | None:
    """None where some of the text was not drawn token by token: its ending, or what followed a value taken back."""
    asked = sample.job.request.sampling.logprobs is not None and sample.job.grammar is not None
    return sample.log_mass if asked and status == "complete" and not (sample.retries or sample.steered) else None


def failed_result(request_id: str, error: EngineError, who: Identity, prompt_tokens: int = 0) -> Result:
    """A request that never began: status `error` in place, for batches."""
    return Result(
        id=request_id,
        status="error",
        finish_reason="error",
        usage=Usage(prompt_tokens=prompt_tokens),
        model=who.model,
        quantization=who.quantization,
        engine_version=who.engine_version,
        device=who.device,
        created=time.time(),
        error=error.to_dict(),
    )


def _failed(job: Job) -> bool:
    return job.grammar is not None and (
        not job.grammar.done() or job.grammar.cancelled() or job.grammar.exception() is not None
    )


def _counts(verdicts: tuple[Any, ...], checks: int) -> dict[str, int]:
    counted = Counter(verdict.verdict for verdict in verdicts) + Counter(checked=checks)
    return {name: counted.get(name, 0) for name in ("enforced", "narrowed", "checked")}


def _mean(sample: Sample) -> float | None:
    constrained = [entry["constrained"] for entry in sample.logprobs]
    return sum(constrained) / len(constrained) if constrained else None


def _error(sample: Sample, judgement: Judgement) -> dict[str, Any] | None:
    if sample.error is not None:
        return sample.error.to_dict()
    if sample.status == "invalid":
        parts = {
            "type": "Invalid",
            "message": judgement.message,
            "param": judgement.keyword,
            "pointer": judgement.pointer,
        }
        return {key: value for key, value in parts.items() if value is not None}
    if sample.status in ("timeout", "cancelled", "dead_end"):
        method = sample.job.request.sampling.method if sample.status == "dead_end" else "mask"
        reason = _UNDRAWN.get(method, _REASONS[sample.status])
        return {"type": sample.status.title().replace("_", ""), "message": reason}
    return None


_REASONS: dict[str, str] = {
    "timeout": "the deadline passed before the text could be finished",
    "cancelled": "the caller cancelled the request",
    "dead_end": "the grammar left no legal token",
}


_UNDRAWN = {
    "smc": "none of the particles ended as a valid text within max_tokens",
    "rejection": "no text that was drawn is valid within max_tokens: there is none, or none came in as many tokens as "
    "limits.proposed_tokens allows",
}


def _timings(sample: Sample, compile_ms: float, detokenize_s: float) -> Timings:
    job = sample.job
    ended = sample.ended or time.perf_counter()
    started = sample.started or ended
    first = sample.first_token or ended
    return Timings(
        queue=(started - job.submitted) * 1e3,
        compile=compile_ms,
        prefill=(first - started) * 1e3,
        decode=(ended - first) * 1e3,
        mask_fill=sample.fill_s * 1e3,
        mask_exposed=sample.exposed_s * 1e3,
        detokenize=detokenize_s * 1e3,
        total=(ended - job.submitted) * 1e3,
    )
