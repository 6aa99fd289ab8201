"""One row of one step as a StepRecord, for whoever traces. Costs nothing when nobody does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.decode.requests.job import Sample
from engine.interfaces import Runner, Sampled, StepRecord, Tokenizer

if TYPE_CHECKING:
    from engine.decode.step.masks import Row


def record_row(
    sample: Sample,
    row: Row,
    offset: int,
    sampled: Sampled,
    *,
    accept_s: float,
    runner: Runner,
    tokenizer: Tokenizer,
    step: int,
    rows: int,
    overlap: bool,
) -> None:
    """Write the record of the token at `offset` of this row to the job's trace. Without overlap nothing is hidden."""
    trace = sample.job.trace
    if trace is None:
        return
    index = row.first + offset
    token = sampled.token_ids[index]
    trace(
        StepRecord(
            step=step,
            request_id=sample.job.request.id,
            row=sample.slot or 0,
            position=len(sample.output) - 1,
            token_id=token,
            text=tokenizer.decode([token]),
            forced=offset < len(row.draft) and token == row.draft[offset],
            rows=rows,
            accept_us=accept_s * 1e6,
            legal_tokens=row.legal[offset],
            mass=sampled.mass[index] if sampled.mass else None,
            entropy_free=sampled.entropy_free[index] if sampled.entropy_free else None,
            entropy=sampled.entropy[index] if sampled.entropy else None,
            argmax_illegal=_illegal(sampled, index),
            event=sample.status,
            **_times(sample, row, offset, runner.timings(), overlap),
        )
    )


def _times(sample: Sample, row: Row, offset: int, times: dict[str, float], overlap: bool) -> dict[str, float]:
    """Microseconds of the row's mask, split into what the step hid and what it showed."""
    fill = row.fill_s[offset] * 1e6
    copy, apply = times.get("copy", 0.0), times.get("apply", 0.0)
    waited = times.get("mask_wait", 0.0) if overlap else fill + copy
    exposed = min(waited + apply, fill + copy + apply) if sample.matcher is not None else 0.0
    return {
        "fill_us": fill,
        "copy_us": copy,
        "apply_us": apply,
        "forward_us": times.get("forward", 0.0),
        "sample_us": times.get("sample", 0.0),
        "hidden_us": fill + copy + apply - exposed,
        "exposed_us": exposed,
    }


def _illegal(sampled: Sampled, index: int) -> bool | None:
    return None if sampled.argmax_legal is None else not sampled.argmax_legal[index]
