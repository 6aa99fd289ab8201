"""The gated delta rule (arXiv 2412.06464) in plain torch, fp32: by chunks of tokens, each a few products.

A head's state S [Dk, Dv] maps keys to values. A token with decay a, rate b, key k and value v makes it
a S + k (b (v - (a S)' k))', and reads S' q. Within a chunk the corrections of all tokens are the solution of one
triangular system, so that a chunk costs products instead of a walk over its tokens.

Axis letters: ... layers or heads, T tokens, K key size, V value size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch program gives it
from torch import Tensor

CHUNK = 64


def unit(x: Tensor) -> Tensor:
    """Vectors along the last axis, of length 1."""
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def convolve(inputs: Tensor, taps: Tensor) -> Tensor:
    """SiLU of each channel's causal convolution: inputs [..., P + T - 1, C], taps [..., C, P] -> fp32 [..., T, C]."""
    windows = inputs.float().unfold(-2, taps.shape[-1], 1)  # [..., T, C, P]
    return F.silu((windows * taps.unsqueeze(-3)).sum(-1))


def follow(
    state: Tensor, keys: Tensor, values: Tensor, decay: Tensor, rate: Tensor, queries: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The state [..., K, V] after keys [..., T, K], values [..., T, V], the decay's logarithm and rate [..., T]; and
    what queries [..., T, K] read on the way [..., T, V], where there are any."""
    read: list[Tensor] = []
    for at in range(0, keys.shape[-2], CHUNK):
        part = slice(at, at + CHUNK)
        asked = None if queries is None else queries[..., part, :]
        state, found = _chunk(
            state, keys[..., part, :], values[..., part, :], decay[..., part], rate[..., part, None], asked
        )
        if found is not None:
            read.append(found)
    return state, torch.cat(read, dim=-2) if read else None


def _chunk(
    state: Tensor, k: Tensor, v: Tensor, decay: Tensor, rate: Tensor, q: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    total = decay.cumsum(-1)  # the logarithm of what is left of the state that the chunk began with
    begun, rest = total.exp().unsqueeze(-1), (total[..., -1:] - total).exp().unsqueeze(-1)
    wrong = rate * (v - begun * (k @ state))
    between = (total.unsqueeze(-1) - total.unsqueeze(-2)).tril().exp()  # from the column's token to the row's
    if k.shape[-2] > 1:
        system = rate * between * (k @ k.transpose(-1, -2))
        wrong = torch.linalg.solve_triangular(system, wrong, upper=False, unitriangular=True)
    found = None if q is None else begun * (q @ state) + (between * (q @ k.transpose(-1, -2))).tril() @ wrong
    return begun[..., -1:, :] * state + (rest * k).transpose(-1, -2) @ wrong, found
