"""Sound experts to plant damage in: those of a trained model, and made ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from engine.errors import ModelError

Layer = tuple[str, list[Tensor]]
"""A name, and the same projection of all experts of a layer, fp32 [N, K]."""
_EXPERT = re.compile(r"(model\.layers\.\d+\.mlp\.experts)\.(\d+)\.(gate|up|down)_proj\.weight")


def trained(folder: Path) -> list[Layer]:
    """Every layer's experts, a projection at a time. ModelError where the folder has none by Hugging Face's names."""
    found: dict[str, dict[int, Tensor]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - no mapping
                if told := _EXPERT.fullmatch(name):
                    layer = found.setdefault(f"{told[1]}.{told[3]}_proj", {})
                    layer[int(told[2])] = weights.get_tensor(name).float()
    if not found:
        raise ModelError(f"{folder} has no experts", param="model")
    return [(name, [experts[index] for index in sorted(experts)]) for name, experts in sorted(found.items())]


def made(seed: int, experts: int, rows: int, columns: int) -> Layer:
    """Numbers without training: tails of a normal or a Student's t, sizes that differ by expert and by column, and
    more or less that all experts share."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    tails, common, wide = (float(torch.rand((), generator=random)) for _ in range(3))
    profile, shared, matrices = wide * normal(columns), normal(16, columns) / 4, []
    for _ in range(experts):
        own = normal(rows, columns)
        if tails > 0.5:  # 3 to 8 degrees of freedom
            degrees = 3 + round(10 * (tails - 0.5))
            own = own / (normal(degrees, rows, columns).pow(2).mean(0)).sqrt()
        own = own + common * normal(rows, 16) @ shared
        matrices.append(0.02 * own * torch.exp(profile + 0.1 * normal(columns) + 0.1 * normal(1)))
    return f"made {seed}.{('gate', 'down')[seed % 2]}_proj", matrices


def all_made(seed: int, experts: int, rows: int, columns: int) -> Iterator[Layer]:
    """Without end, from that seed on."""
    while True:
        yield made(seed, experts, rows, columns)
        seed += 1


def embedded() -> list[tuple[str, Tensor]]:
    """The embedded model's linear layers, dequantised."""
    from engine.model.cpu.packed_weights import open_gguf
    from engine.model.files.source import embedded_gguf
    from engine.model.formats.gguf_file import read_gguf

    opened = open_gguf(read_gguf(embedded_gguf()))
    names = [name for name in opened.names if name.endswith("_proj.weight")]
    found = ((name, opened.checkpoint.read_weight(name)) for name in names)
    return [(name, weight.float() if isinstance(weight, Tensor) else weight.dequantize()) for name, weight in found]
