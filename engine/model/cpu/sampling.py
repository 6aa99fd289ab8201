"""The device half of the sampler in plain torch: the specification that the fused kernel is checked against.

Order: repetition penalty, token bitmask, temperature, top-k, top-p, min-p, then inverse-CDF sampling in id order with
one uniform number per row. Knows tensors; knows nothing of seeds, matchers or requests.

Axis letters: R logits rows, V logits width, W = ceil(V / 32).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.interfaces import Sampled, SampleInputs


def unpack_bitmask(bitmask: Tensor, width: int) -> Tensor:
    """int32 [R, W] to bool [R, V]; bit j of word i is token 32 i + j (XGrammar's layout)."""
    bits = (bitmask.unsqueeze(-1) >> torch.arange(32, dtype=torch.int32, device=bitmask.device)) & 1
    return bits.reshape(bitmask.shape[0], -1)[:, :width].bool()


def apply_repetition_penalty(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """CTRL's rule (arXiv 1909.05858) on one row [V]: seen ids with positive logits are divided, others multiplied."""
    values = logits[seen]
    logits = logits.clone()
    logits[seen] = torch.where(values > 0, values / penalty, values * penalty)
    return logits


@dataclass(frozen=True, slots=True)
class RowParams:
    """Sampling settings of one row."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    uniform: float


def choose(logits: Tensor, legal: Tensor | None, params: RowParams) -> int:
    """The id drawn from a row of fp32 logits [V]; `legal` is bool [V] or None for all. O(V), a sort with top-p."""
    ids = legal.nonzero().squeeze(-1) if legal is not None else None
    values = logits if ids is None else logits[ids]
    index = _greedy(values) if params.temperature == 0.0 else _draw(values, params)
    return index if ids is None else int(ids[index])


def _greedy(values: Tensor) -> int:
    return int(values.numpy(force=True).argmax())  # numpy promises the first of equal maxima, torch does not


def _draw(values: Tensor, params: RowParams) -> int:
    scaled = values.double() / params.temperature
    probabilities = torch.softmax(scaled, dim=-1)
    keep = _kept(probabilities, params)
    if keep is not None:
        probabilities = torch.where(keep, probabilities, 0.0)
    cumulative = probabilities.cumsum(-1)
    index = int(torch.searchsorted(cumulative, params.uniform * cumulative[-1], right=True))
    return min(index, int(probabilities.nonzero()[-1]))


def _kept(probabilities: Tensor, params: RowParams) -> Tensor | None:
    """Which entries survive top-k, then top-p on what is left, then min-p; None when all do."""
    size = probabilities.shape[-1]
    top_k = params.top_k if 0 < params.top_k < size else 0
    if not top_k and params.top_p >= 1.0 and params.min_p <= 0.0:
        return None
    keep = torch.ones_like(probabilities, dtype=torch.bool)
    if top_k or params.top_p < 1.0:
        keep = torch.zeros_like(keep)
        keep[_nucleus(probabilities, top_k or size, params.top_p)] = True
    return keep & (probabilities >= params.min_p * probabilities.max())


def _nucleus(probabilities: Tensor, top_k: int, top_p: float) -> Tensor:
    """Indices of the fewest most likely entries, at most `top_k`, whose share of those reaches `top_p`."""
    ordered, order = torch.sort(probabilities, descending=True, stable=True)
    ordered, order = ordered[:top_k], order[:top_k]
    before = ordered.cumsum(-1) - ordered
    return order[before < top_p * ordered.sum()] if top_p < 1.0 else order


def sample_rows(
    logits: Tensor, inputs: SampleInputs, seen: list[Tensor | None], legal: Tensor | None = None
) -> Sampled:
    """Sample every row of fp32 `logits` [R, V] on the CPU. `seen[r]` are distinct ids for the repetition penalty.

    `legal` is the unpacked bitmask, bool [R, V], where the caller has it already.
    """
    if legal is None and inputs.bitmask is not None:
        legal = unpack_bitmask(inputs.bitmask, logits.shape[1])
    if inputs.sources:
        logits = logits[[inputs.sources.get(row, row) for row in range(logits.shape[0])]]
    sampled = Sampled(token_ids=[])
    if inputs.want_logprobs:
        sampled.logprob_raw, sampled.logprob, sampled.top = [], [], []
    if inputs.want_stats:
        sampled.mass, sampled.entropy_free, sampled.entropy = [], [], []
        sampled.argmax_free, sampled.argmax_legal = [], []
    if inputs.want_mass:
        sampled.log_mass, sampled.log_drawn = [], []
    for row in range(logits.shape[0]):
        allowed = None if legal is None else legal[row]
        values = logits[row]
        used = seen[row]
        if used is not None and inputs.repetition_penalty[row] != 1.0:
            values = apply_repetition_penalty(values, used, inputs.repetition_penalty[row])
        token = choose(biased(values, inputs, row), allowed, row_params(inputs, row))
        sampled.token_ids.append(token)
        if sampled.log_mass is not None and sampled.log_drawn is not None:
            raw = torch.log_softmax(logits[row].double() / (inputs.temperature[row] or 1.0), dim=-1)
            sampled.log_mass.append(0.0 if allowed is None else float(torch.logsumexp(raw[allowed], dim=-1)))
            sampled.log_drawn.append(float(raw[token]))
        if inputs.want_logprobs or inputs.want_stats:
            _describe(sampled, logits[row], allowed, token, inputs)
    return sampled


def biased(values: Tensor, inputs: SampleInputs, row: int) -> Tensor:
    """A row's logits [V] with its bias, which is told at the row's temperature."""
    bias = (inputs.bias or {}).get(row)
    if not bias:
        return values
    values = values.clone()
    values[list(bias)] += torch.tensor(list(bias.values()), device=values.device) * inputs.temperature[row]
    return values


def row_params(inputs: SampleInputs, row: int) -> RowParams:
    return RowParams(
        inputs.temperature[row], inputs.top_p[row], inputs.top_k[row], inputs.min_p[row], inputs.uniform[row]
    )


def _describe(sampled: Sampled, logits: Tensor, legal: Tensor | None, token: int, inputs: SampleInputs) -> None:
    """Log-probabilities and constraint pressure of one row, in float64, before penalty and temperature.

    About 1 ms for 49,152 logits: two passes of exponentials over all of them, the rest over the legal ones.
    """
    raw = torch.log_softmax(logits.double(), dim=-1)
    within = raw if legal is None else raw[legal]
    log_mass = raw.new_zeros(()) if legal is None else torch.logsumexp(within, dim=-1)
    if inputs.want_logprobs:
        _describe_tokens(sampled, raw, legal, log_mass, token, inputs.want_logprobs)
    if sampled.mass is None or sampled.entropy_free is None or sampled.entropy is None:
        return
    assert sampled.argmax_free is not None
    assert sampled.argmax_legal is not None
    sampled.mass.append(float(log_mass.exp()))
    sampled.entropy_free.append(_entropy(raw))
    sampled.entropy.append(sampled.entropy_free[-1] if legal is None else _entropy(within - log_mass))
    favourite = _greedy(logits)
    sampled.argmax_free.append(favourite)
    sampled.argmax_legal.append(legal is None or bool(legal[favourite]))


def _describe_tokens(
    sampled: Sampled, raw: Tensor, legal: Tensor | None, log_mass: Tensor, token: int, wanted: int
) -> None:
    """Log-probabilities of the sampled id and of the best `wanted` - 1 legal ones, before and after the mask."""
    constrained = raw - log_mass if legal is None else torch.where(legal, raw - log_mass, -torch.inf)
    if sampled.logprob_raw is not None and sampled.logprob is not None and sampled.top is not None:
        sampled.logprob_raw.append(float(raw[token]))
        sampled.logprob.append(float(constrained[token]))
        best = torch.topk(constrained, min(wanted - 1, constrained.shape[0])).indices.tolist()
        sampled.top.append([(i, float(raw[i]), float(constrained[i])) for i in best if constrained[i] > -torch.inf])


def _entropy(log_probabilities: Tensor) -> float:
    """Nats. A logit of minus infinity has no probability and no part in it."""
    probabilities = log_probabilities.exp()
    return float(-(probabilities * log_probabilities.nan_to_num(neginf=0.0)).sum())
