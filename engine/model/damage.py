"""What can be seen of damaged weights: from one matrix alone, against its sibling experts, against a source.

Siblings are the same projection of one layer's experts. Knows matrices and numbers; no format and no file. Thresholds
are set so that sound matrices of very different experts stay silent; what they cannot see is in docs/quantization.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

SCALE = 3.0
"""RMS over the siblings' median, or under it, from where scales count as wrong: wrong ones are off by 4 and more."""
SATURATED = 0.5
"""Share of elements that are the largest or smallest of their 16 columns; sound weights have 0.13 to 0.35."""
FEWEST = 4
"""Siblings that a comparison needs."""
FAR, FARTHER, BIASED = 6.0, 1.6, 2.0
"""`Errors` over what is usual in the format, from where they count as damage."""
UNEVEN = 1.1
"""What groups show over the siblings' median, from where codes and scales count as put together wrongly; sound experts,
trained, are within 3 %."""
PLACES = 256
"""Places along the hidden axis, at most, whose pairs are looked at: what is kept of a matrix is half their square."""
_GROUP = 16
"""Columns; formats have at least so many to a scale."""


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
    uneven: float
    """How far apart the sizes of groups of columns are (their logarithms' deviation); 0 without a hidden axis."""
    lean: float
    """How much of groups' sizes their means are: where scales are others', minima move whole groups."""
    groups: int
    """How many there are."""
    profile: Tensor
    """fp32 [H]: log RMS at each place of the hidden axis, less its mean; empty without such an axis."""
    pairs: Tensor
    """fp32: correlations of what stands at each two of `PLACES` places of the hidden axis; empty likewise."""


def facts_of(matrix: Tensor, hidden: int | None = None) -> Facts:
    """Look at fp32 [N, K] once. `hidden`: the axis of the hidden size, for matrices that have siblings."""
    finite = bool(torch.isfinite(matrix).all())
    usable = matrix if finite else matrix.nan_to_num(0.0, 0.0, 0.0)
    groups = _groups(usable)
    sizes = groups.pow(2).mean(-1).clamp(min=1e-20)
    looked = hidden is not None and sizes.numel() > 0
    return Facts(
        finite=finite,
        rms=float(usable.double().pow(2).mean().sqrt()),
        constant=bool((usable == usable[0, 0]).all()),
        saturated=_saturated(usable),
        digest=hashlib.sha256(matrix.contiguous().numpy().tobytes()).hexdigest(),
        uneven=_deviation(sizes.log()) if looked else 0.0,
        lean=float((groups.mean(-1).pow(2) / sizes).mean()) if looked else 0.0,
        groups=sizes.numel(),
        profile=usable.new_empty(0) if hidden is None else _profile(usable, 1 - hidden),
        pairs=usable.new_empty(0) if hidden is None else _pairs(usable if hidden else usable.t()),
    )


def alone(name: str, facts: Facts) -> list[Finding]:
    """What one matrix shows by itself; the first thing that is wrong with it."""
    if not facts.finite:
        return [Finding(name, "not finite", "it holds an infinity or NaN")]
    if facts.constant:
        kind = "zero" if facts.rms == 0 else "constant"
        return [Finding(name, kind, f"every element is {facts.rms:.3g} in size")]
    if facts.saturated > SATURATED:
        return [Finding(name, "saturated", f"{facts.saturated:.0%} of its elements are at an end of their group")]
    return []


def among_siblings(siblings: Mapping[str, Facts]) -> list[Finding]:
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
    rest = {name: facts for name, facts in sound.items() if name not in wrong}
    if len(rest) < FEWEST:
        return found
    found += _misplaced(rest)
    found += _permuted({name: facts.profile for name, facts in rest.items()}, "its profile along the hidden axis")
    return found + _permuted({name: facts.pairs for name, facts in rest.items()}, "what goes together along that axis")


class Errors(NamedTuple):
    """How far a matrix is from its source."""

    row: float
    """The largest relative error of a row."""
    rows: float
    """The median one."""
    bias: float
    """How far apart the sizes of tiles of 16 x 16 elements are, each over its source's."""


def against(matrix: Tensor, source: Tensor) -> Errors:
    """Errors of rows are over the RMS of the source's rows."""
    difference = (matrix - source).double().pow(2).mean(1).sqrt()
    size = source.double().pow(2).mean(1).sqrt().clamp(min=1e-12)
    errors = (difference / torch.maximum(size, size.median() * 0.1)).nan_to_num(torch.inf)
    return Errors(float(errors.max()), float(errors.median()), _bias(matrix, source))


def beyond(errors: Mapping[str, Errors]) -> list[Finding]:
    """Matrices of one format that are much further from the source than those of that format are."""
    if not errors:
        return []
    usual, bias = (torch.tensor([own[i] for own in errors.values()]).median().item() for i in (1, 2))
    limits = [max(limit, 1e-3) for limit in (FAR * usual, FARTHER * usual, BIASED * bias)]
    return [
        Finding(name, "differs", f"a row is {own.row:.3g} of its size from the source, half of the rows {own.rows:.3g},"
                f" sizes of tiles {own.bias:.3g}; usual here are {usual:.3g} and {bias:.3g}")
        for name, own in errors.items()
        if not all(found <= limit for found, limit in zip(own, limits, strict=True))
    ]  # fmt: skip


def _bias(matrix: Tensor, source: Tensor) -> float:
    """Each tile's coefficient on its source, which rounding moves little."""
    rows, columns = (size // _GROUP for size in source.shape)
    if not rows * columns:
        return 0.0
    part = slice(rows * _GROUP), slice(columns * _GROUP)
    tiles = [(first * source)[part].view(rows, _GROUP, columns, _GROUP).sum((1, 3)) for first in (matrix, source)]
    weight = tiles[1].clamp(min=0.01 * float(tiles[1].median()) + 1e-30)
    coefficients = ((tiles[0] - tiles[1]) / weight).nan_to_num(0.0, 0.0, 0.0)  # rows tell of what is not finite
    return _deviation(coefficients)


def _alike(siblings: Mapping[str, Facts]) -> list[Finding]:
    first: dict[str, str] = {}
    found = []
    for name, facts in siblings.items():
        if facts.digest in first:
            found.append(Finding(name, "alike", f"equal to {first[facts.digest]}, element by element"))
        first.setdefault(facts.digest, name)
    return found


def _misplaced(siblings: Mapping[str, Facts]) -> list[Finding]:
    """Experts whose groups differ more in size than their siblings' do, or lie further from zero: what codes and scales
    that do not belong together make of weights, since a group's codes are small where its scale is large."""
    chance = 10 * (2 / max(1, next(iter(siblings.values())).groups)) ** 0.5
    return [
        *_beyond_siblings({name: f.uneven for name, f in siblings.items()}, chance / 2, "sizes of its groups vary"),
        *_beyond_siblings({name: f.lean for name, f in siblings.items()}, chance, "its groups lie off zero"),
    ]


def _beyond_siblings(traits: Mapping[str, float], chance: float, what: str) -> list[Finding]:
    """Those far over the median: by `chance`, ten deviations of what numbers drawn at random show, by as many of the
    siblings' own, and by a tenth."""
    numbers = torch.tensor(list(traits.values()))
    median = float(numbers.median())
    if not median:
        return []
    limit = median * max(UNEVEN, 1 + chance, 1 + 10 * _deviation(numbers) / median)
    return [
        Finding(name, "permuted", f"{what} {own / median:.2f} times as much as its siblings'")
        for name, own in traits.items()
        if own > limit
    ]


def _permuted(traits: Mapping[str, Tensor], what: str) -> list[Finding]:
    """Experts that have nothing of what their siblings share along the hidden axis.

    Correlations with the others' mean; where siblings share nothing, nothing can be said, and nothing is.
    """
    stacked = torch.stack(list(traits.values()))
    if not stacked.shape[1]:
        return []
    others = (stacked.sum(0) - stacked) / (len(stacked) - 1)
    correlation = torch.nn.functional.cosine_similarity(stacked, others, dim=1)
    noise = stacked.shape[1] ** -0.5
    if correlation.quantile(0.25) < 8 * noise:
        return []
    median, limit = float(correlation.median()), 4 * noise
    return [
        Finding(name, "permuted", f"{what} correlates {own:.2f} with its siblings' (theirs: {median:.2f})")
        for name, own in zip(traits, correlation.tolist(), strict=True)
        if own < limit
    ]


def _deviation(numbers: Tensor) -> float:
    """The standard deviation of those that are no outliers."""
    return 1.4826 * float((numbers - numbers.median()).abs().median())


def _groups(matrix: Tensor) -> Tensor:
    """[N, K] to [N, G, columns], without what fills no group."""
    return matrix[:, : matrix.shape[1] // _GROUP * _GROUP].reshape(len(matrix), -1, _GROUP)


def _saturated(matrix: Tensor) -> float:
    groups = _groups(matrix)
    if not groups.numel():
        return 0.0
    low, high = groups.aminmax(dim=-1, keepdim=True)
    edge = 0.025 * (high - low)
    return float(((groups <= low + edge) | (groups >= high - edge)).float().mean())


def _profile(matrix: Tensor, axis: int) -> Tensor:
    size = matrix.pow(2).mean(axis).clamp(min=1e-20).log()
    return size - size.mean()


def _pairs(matrix: Tensor) -> Tensor:
    """Cosines of each two of at most `PLACES` columns [N, H], evenly spaced."""
    columns = matrix[:, :: -(-matrix.shape[1] // PLACES)]
    columns = columns / columns.norm(dim=0).clamp(min=1e-20)
    products: Tensor = columns.t() @ columns
    return products[torch.ones_like(products, dtype=torch.bool).triu(1)]


def hidden_axis(name: str) -> int:
    """The axis of the hidden size: columns of gate and up, rows of down."""
    return 0 if "down_proj" in name else 1
