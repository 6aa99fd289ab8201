"""What can be seen of damaged weights: from one matrix alone, against its sibling experts, against a source.

Siblings are the same projection of one layer's experts. Knows matrices and numbers; no format and no file. Thresholds
are set so that sound matrices of very different experts stay silent; what they cannot see is in docs/quantization.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

SCALE = 3.0
"""RMS over the siblings' median, or under it, from where scales count as wrong: wrong ones are off by 4 and more."""
SATURATED = 0.5
"""Share of elements as large as the largest of their 32 columns; sound 4-bit weights have 0.03 to 0.15."""
FEWEST = 4
"""Siblings that a comparison needs."""
FAR = 3.0
"""Against a source: a row's error over the median row error of its format, from where it counts as damage."""
_GROUP = 32


@dataclass(frozen=True, slots=True)
class Finding:
    """One damaged matrix."""

    name: str
    kind: str
    """not finite, zero, constant, saturated, scale, alike, permuted, missing, differs"""
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is kept of a matrix [N, K] once it has been looked at."""

    finite: bool
    rms: float
    constant: bool
    saturated: float
    digest: str
    columns: Tensor
    """fp32 [K]: log RMS of each column, less its mean."""
    rows: Tensor
    """fp32 [N]: likewise of each row."""


def facts_of(matrix: Tensor) -> Facts:
    """Look at fp32 [N, K] once."""
    finite = bool(torch.isfinite(matrix).all())
    usable = matrix if finite else matrix.nan_to_num(0.0, 0.0, 0.0)
    return Facts(
        finite=finite,
        rms=float(usable.double().pow(2).mean().sqrt()),
        constant=bool((usable == usable[0, 0]).all()),
        saturated=_saturated(usable),
        digest=hashlib.sha256(matrix.contiguous().numpy().tobytes()).hexdigest(),
        columns=_profile(usable, 0),
        rows=_profile(usable, 1),
    )


def alone(name: str, facts: Facts) -> list[Finding]:
    """What one matrix shows by itself; the first thing that is wrong with it."""
    if not facts.finite:
        return [Finding(name, "not finite", "it holds an infinity or NaN")]
    if facts.constant:
        kind = "zero" if facts.rms == 0 else "constant"
        return [Finding(name, kind, f"every element is {facts.rms:.3g} in size")]
    if facts.saturated > SATURATED:
        return [Finding(name, "saturated", f"{facts.saturated:.0%} of its elements are the largest of their group")]
    return []


def among_siblings(siblings: Mapping[str, Facts], hidden_is_columns: bool) -> list[Finding]:
    """What the same projection of a layer's experts shows side by side; those wrong by themselves do not vote."""
    sound = {name: facts for name, facts in siblings.items() if not alone(name, facts)}
    found = _alike(sound)
    if len(sound) < FEWEST:
        return found
    median = torch.tensor([facts.rms for facts in sound.values()]).median().item()
    wrong = {name for name, facts in sound.items() if not median / SCALE < facts.rms < median * SCALE}
    for name in sorted(wrong):
        factor = sound[name].rms / median
        found.append(Finding(name, "scale", f"{factor:.3g} times the size of its sibling experts"))
    rest = {name: f.columns if hidden_is_columns else f.rows for name, f in sound.items() if name not in wrong}
    return found + _permuted(rest)


def against(matrix: Tensor, source: Tensor) -> tuple[float, float]:
    """(largest, median) relative error of a row, over the RMS of the source's rows."""
    difference = (matrix - source).double().pow(2).mean(1).sqrt()
    size = source.double().pow(2).mean(1).sqrt().clamp(min=1e-12)
    errors = (difference / torch.maximum(size, size.median() * 0.1)).nan_to_num(torch.inf)
    return float(errors.max()), float(errors.median())


def beyond(errors: Mapping[str, tuple[float, float]]) -> list[Finding]:
    """Matrices of one format of which a row is much further from the source than rows of that format are."""
    if not errors:
        return []
    usual = torch.tensor([median for _, median in errors.values()]).median().item()
    limit = max(FAR * usual, 1e-3)
    return [
        Finding(name, "differs", f"a row is {largest:.3g} of its size from the source; usual here is {usual:.3g}")
        for name, (largest, _) in errors.items()
        if not largest <= limit
    ]


def _alike(siblings: Mapping[str, Facts]) -> list[Finding]:
    first: dict[str, str] = {}
    found = []
    for name, facts in siblings.items():
        if facts.digest in first:
            found.append(Finding(name, "alike", f"equal to {first[facts.digest]}, element by element"))
        first.setdefault(facts.digest, name)
    return found


def _permuted(profiles: Mapping[str, Tensor]) -> list[Finding]:
    """Experts whose profile along the hidden axis is not the one that their siblings share.

    Correlations with the others' mean; where siblings share no profile nothing can be said, and nothing is.
    """
    if len(profiles) < FEWEST:
        return []
    stacked = torch.stack(list(profiles.values()))
    others = (stacked.sum(0) - stacked) / (len(stacked) - 1)
    correlation = torch.nn.functional.cosine_similarity(stacked, others, dim=1)
    median = correlation.median()
    spread = 1.4826 * (correlation - median).abs().median()
    noise = stacked.shape[1] ** -0.5
    limit = min(float(median - 4 * spread), float(median) / 2)
    if limit < 4 * noise:
        return []
    return [
        Finding(name, "permuted", f"its profile along the hidden axis correlates {own:.2f} with its siblings'"
                f" (theirs: {median:.2f})")
        for name, own in zip(profiles, correlation.tolist(), strict=True)
        if own < limit
    ]  # fmt: skip


def _saturated(matrix: Tensor) -> float:
    columns = matrix.shape[1] // _GROUP * _GROUP
    if not columns:
        return 0.0
    sizes = matrix[:, :columns].abs().view(len(matrix), -1, _GROUP)
    return float((sizes >= 0.95 * sizes.amax(-1, keepdim=True)).float().mean())


def _profile(matrix: Tensor, axis: int) -> Tensor:
    size = matrix.pow(2).mean(axis).clamp(min=1e-20).log()
    return size - size.mean()


def hidden_axis(name: str) -> bool:
    """Whether the hidden size is the columns (gate, up) and not the rows (down)."""
    return "down_proj" not in name
