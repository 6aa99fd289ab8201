"""Random weights in fragment form, and the distance that tests judge by."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model.cpu import kv_codes
from engine.model.kernels.device.fragments import (
    FragmentWeight,
    fragment_bytes,
    fragment_codes,
    fragment_halves,
    fragment_scales,
    pair_table,
)
from engine.model.weights.codebook import codebook

NF4 = codebook("nf4", torch.device("cpu"))


def random_weight(bits: int, *shape: int) -> FragmentWeight:
    """[..., N, K] with values of about 0.1."""
    table = pair_table(NF4)
    if bits == 16:
        return FragmentWeight(
            fragment_halves(torch.randn(shape) * 0.1), torch.zeros(1), table, shape[-2], shape[-1], 16
        )
    if bits == 8:
        codes = torch.randint(-127, 128, shape, dtype=torch.int8)
        return FragmentWeight(fragment_bytes(codes), torch.rand(shape[:-1]) * 0.002, table, shape[-2], shape[-1], 8)
    codes = torch.randint(0, 16, shape, dtype=torch.uint8)
    absmax = torch.rand(*shape[:-1], shape[-1] // 64) * 0.1 + 0.1
    return FragmentWeight(fragment_codes(codes), fragment_scales(absmax), table, shape[-2], shape[-1], 4)


def distance(value: Tensor, reference: Tensor) -> float:
    """Relative error in the 2-norm; NaN counts as infinite."""
    error = float((value.float() - reference.float()).norm() / reference.float().norm())
    return error if error == error else float("inf")


def stored_as(kept: str, entries: Tensor) -> Tensor:
    """Entries fp16 [..., B, D] of a cache as it keeps them: `fp16`, or in codes of 8 bits, `fp8`."""
    if kept == "fp16":
        return entries.clone()
    codes, exponents = kv_codes.encode(entries)
    return torch.cat((codes.flatten(-2), exponents), -1)
