"""How far one model's next-token distributions are from another's, with and without a grammar's mask.

Axis letters: T tokens of a document, V logits. Everything in float64 and nats. Knows logits and masks; runs no model.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(slots=True)
class Sums:
    """Sums over the tokens of one or more documents; the means are these over `tokens` (or `open`)."""

    tokens: float = 0.0
    open: float = 0.0
    """Tokens where the grammar leaves a choice."""
    kl_all: float = 0.0
    """KL(reference || variant) over all tokens."""
    kl_legal: float = 0.0
    """The same between the distributions that are left when only legal tokens count."""
    kl_mass: float = 0.0
    """The part of `kl_all` that lies in how much probability the legal set gets: KL of two coins, Z against Z."""
    flips_free: float = 0.0
    """Tokens where the most likely token differs."""
    flips_legal: float = 0.0
    """Tokens where the most likely legal token differs."""
    mass: float = 0.0
    """Z: the variant's probability of the legal set."""
    mass_shift: float = 0.0
    """Z of the variant less Z of the reference."""
    mass_distance: float = 0.0
    """The size of that shift."""

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def compare(reference: Tensor, variant: Tensor, legal: Tensor) -> Sums:
    """Two models' logits [T, V] on the same tokens, and bool [T, V] of what the grammar allows there."""
    log_p, log_q = (logits.double().log_softmax(-1) for logits in (reference, variant))
    p, q = log_p.exp(), log_q.exp()
    terms = p * (log_p - log_q)
    z, w = (_mass(x, legal) for x in (p, q))
    within = terms.masked_fill(~legal, 0.0).sum(-1)
    return Sums(
        tokens=float(len(p)),
        open=float((legal.sum(-1) > 1).sum()),
        kl_all=float(terms.sum()),
        kl_legal=float((within / z - z.log() + w.log()).clamp(min=0.0).sum()),
        kl_mass=float((_share(z, w) + _share(_mass(p, ~legal), _mass(q, ~legal))).sum()),
        flips_free=float((p.argmax(-1) != q.argmax(-1)).sum()),
        flips_legal=float((_best(p, legal) != _best(q, legal)).sum()),
        mass=float(w.sum()),
        mass_shift=float((w - z).sum()),
        mass_distance=float((w - z).abs().sum()),
    )


def surprise(logits: Tensor, tokens: Tensor, legal: Tensor) -> tuple[float, float]:
    """Negative log-likelihood of `tokens` [T], summed: free, and among the legal tokens."""
    p = logits.double().log_softmax(-1)
    chosen = p.gather(-1, tokens[:, None]).squeeze(-1)
    return float(-chosen.sum()), float((_mass(p.exp(), legal).log() - chosen).sum())


def _mass(probabilities: Tensor, legal: Tensor) -> Tensor:
    """Z [T]. The illegal part is summed by itself, never taken from 1, which would round it away."""
    return probabilities.masked_fill(~legal, 0.0).sum(-1)


def _best(probabilities: Tensor, legal: Tensor) -> Tensor:
    return probabilities.masked_fill(~legal, -1.0).argmax(-1)


def _share(p: Tensor, q: Tensor) -> Tensor:
    """P log(P / Q); 0 where P is."""
    tiny = torch.finfo(torch.float64).tiny  # what a mass that is held as 0 counts as, so that no figure is infinite
    part: Tensor = torch.special.xlogy(p, p / q.clamp(min=tiny)).masked_fill(p == 0, 0.0)
    return part
