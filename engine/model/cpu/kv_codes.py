"""Keys and values in 8 bits: e4m3 codes, and a scale of its own for every head of every position.

The scale is a power of two, kept as the exponent of the head's largest number, which becomes a code of 128 to 256.
So whatever the model's range is, nothing saturates, and numbers down to 1 / 8,192 of the largest keep four digits of
the mantissa. What is not finite stays so. The format is OCP's (OFP8, 2023); the scale is that of its microscaling.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 113
"""The smallest exponent that is kept: of 2^-14, as small as numbers of 16 bits are with a full mantissa."""
BIAS = 134
"""A number is its code times 2^(exponent - BIAS)."""


def encode(values: Tensor) -> tuple[Tensor, Tensor]:
    """Codes uint8 [..., D] and exponents uint8 [...] of `values` [..., D]."""
    exact = values.float()
    exponents = (exact.abs().amax(-1).view(torch.int32) >> 23).clamp(min=LEAST)
    scaled = torch.ldexp(exact, BIAS - exponents.unsqueeze(-1))
    return scaled.to(torch.float8_e4m3fn).view(torch.uint8), exponents.to(torch.uint8)


def decode(codes: Tensor, exponents: Tensor) -> Tensor:
    """fp32 [..., D] of codes uint8 [..., D] and exponents uint8 [...]."""
    return torch.ldexp(codes.view(torch.float8_e4m3fn).float(), exponents.unsqueeze(-1).int() - BIAS)
