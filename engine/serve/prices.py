"""What a second of a GPU costs, with the date and the source of each figure.

Knows published list prices and how device names map to them. Knows no account: `modal billing rates` is the truth for
one, and `MASKLOOP_PRICES` (a JSON file of the same form) replaces this table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import RequestError


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """US dollars per second by Modal's GPU name; `cpu_core` and `memory_gib` are what stands beside the GPU."""

    as_of: str
    source: str
    gpu: Mapping[str, float]
    cpu_core: float
    memory_gib: float

    def per_second(self, device: str) -> float | None:
        """The price of a device by its Modal or driver name; None for a CPU or an unknown card."""
        name = gpu_name(device)
        return self.gpu.get(name) if name else None

    def cost_usd(self, gpu_seconds: float, device: str) -> float | None:
        """What that much GPU time costs; None where no price is known."""
        price = self.per_second(device)
        return None if price is None else gpu_seconds * price

    @classmethod
    def load(cls, path: Path | None) -> Prices:
        """The built-in table, or a file with the same five fields."""
        if path is None:
            return LISTED
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise RequestError(f"the price file {path} cannot be used: {error}", param="MASKLOOP_PRICES") from None


LISTED = Prices(
    as_of="2026-08-19",
    source="modal.com/pricing",
    gpu={
        "A100-80GB": 0.000694,
        "A100-40GB": 0.000583,
        "A10": 0.000306,
        "B200": 0.001736,
        "H100": 0.001097,
        "H200": 0.001261,
        "L4": 0.000222,
        "L40S": 0.000542,
        "T4": 0.000164,
    },
    cpu_core=0.0000131,
    memory_gib=0.00000222,
)


def gpu_name(device: str) -> str | None:
    """`NVIDIA A100-SXM4-80GB` is Modal's `A100-80GB`; the exact Modal name is itself."""
    upper = device.upper().removesuffix("!")
    if "A100" in upper:
        return "A100-40GB" if "40GB" in upper else "A100-80GB"
    for name in ("H200", "H100", "B200", "L40S", "A10", "L4", "T4"):
        if name in upper.replace("-", " ").replace("A10G", "A10").split():
            return name
    return None
