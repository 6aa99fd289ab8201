"""Kernels run in Triton's interpreter here; each weight is dequantised once for all reference calls of a test."""

from __future__ import annotations

import pytest
from torch import Tensor

from engine.model.kernels.device import fragments
from engine.model.kernels.device.fragments import FragmentWeight
from engine.model.kernels.products import experts, linear, prefill


@pytest.fixture(autouse=True)
def dequantise_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The references dequantise at every call, which is right and slow."""
    known: dict[int, tuple[FragmentWeight, Tensor]] = {}

    def remembered(weight: FragmentWeight) -> Tensor:
        if id(weight) not in known:
            known[id(weight)] = (weight, fragments.unfragment(weight))
        return known[id(weight)][1]

    for module in (experts, linear, prefill):
        monkeypatch.setattr(module, "unfragment", remembered)
